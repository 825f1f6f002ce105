"""A process that kills itself in the transaction of a commit and its state. Arguments: service,
before or after the state is written, before or after the transaction is committed."""

import asyncio
import sys

import pytest

from bus import Settings
from bus.stores.mongo import transactions
from bus.stores.mongo.states import MongoStates
from tests.killing import lethal
from tests.service.vacancies import BY_STATE, Fill

SERVICE, WHEN = sys.argv[1:3]
LETHAL = 3


async def main() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(
        MongoStates, "write", lethal(MongoStates.write, "the state", when=WHEN, time=LETHAL)
    )
    patch.setattr(
        transactions, "_commit", lethal(transactions._commit, "the commit", when=WHEN, time=LETHAL)
    )
    async with BY_STATE.build(Settings(), SERVICE) as bus:
        for number in range(5):
            await bus.execute(Fill(vacancy_id="a", amount=number), id=f"k{number}")


asyncio.run(main())
