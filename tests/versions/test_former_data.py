"""What services of the version before have stored, and what waits in their queues, is gone on with.

`stored.json` was written by that version's code (`record.py`).
"""

import pytest

from tests.versions import former


@pytest.mark.usefixtures("amqp_url", "mongo_url")
async def test_what_the_version_before_left_is_gone_on_with() -> None:
    await former.passed(former.BEFORE.parent, "stored_checks.py")
