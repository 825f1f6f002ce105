"""A process that kills itself in the transaction of a commit and its state. Arguments: service,
before or after the state is written, before or after the transaction is committed."""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from bus import Settings
from bus.stores.mongo import transactions
from bus.stores.mongo.states import MongoStates
from tests.service.vacancies import BY_STATE, Fill

SERVICE, WHEN = sys.argv[1:3]
LETHAL = 3


def lethal(call: Any, what: str) -> Any:
    """Returns the call, which is the last one the third time."""
    count = 0

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == LETHAL and f"before {what}" == WHEN:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await call(*given, **named)
        if count == LETHAL and f"after {what}" == WHEN:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted


async def main() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(MongoStates, "write", lethal(MongoStates.write, "the state"))
    patch.setattr(transactions, "_commit", lethal(transactions._commit, "the commit"))
    async with BY_STATE.build(Settings(), SERVICE) as bus:
        for number in range(5):
            await bus.execute(Fill(vacancy_id="a", amount=number), id=f"k{number}")


asyncio.run(main())
