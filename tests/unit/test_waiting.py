import os

import pytest

from tests.waiting import patience, until


@pytest.mark.parametrize(("load", "times"), [(0.0, 1.0), (1.0, 1.0), (3.0, 3.0), (400.0, 5.0)])
def test_a_busy_machine_is_given_more_time_but_not_without_end(
    monkeypatch: pytest.MonkeyPatch, load: float, times: float
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert patience() == times


async def test_what_was_missing_is_told() -> None:
    with pytest.raises(AssertionError, match=r"after 0.01 s or more: the moon is blue"):
        await until(lambda: False, "the moon is blue", within=0.01)
