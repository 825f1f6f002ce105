"""Audits of a projection whose handlers read what they write: as a whole, by samples, by key."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Projection,
    ProjectionError,
    Projections,
    Repository,
    Router,
    Settings,
    Worker,
)
from tests.waiting import until


class Pay(Command):
    purse_id: str
    amount: int


class Paid(Event):
    amount: int


class Purse(Aggregate, events=[Paid]):
    pass


class Largest(BaseModel):
    id: str
    amount: int = 0


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    router = Router("purses")

    @router.command
    async def pay(command: Pay, purses: Repository[Purse]) -> None:
        purse = Purse(command.purse_id)
        purse.record(Paid(amount=command.amount))
        purses.add(purse)

    largest = Projection("largest", of=[Purse], view=Largest)

    @largest.on(Paid)
    async def paid(event: Paid, documents: Documents[Largest]) -> None:
        found = await documents.get("all")
        if found is None or event.amount > found.amount:
            await documents.update("all", {"$set": {"amount": event.amount}})

    bus = Bus("purses", routers=[router], projections=[largest], settings=Settings.in_memory())
    async with bus, Worker(bus):
        for amount in (3, 9, 4):
            await bus.execute(Pay(purse_id=f"p{amount}", amount=amount))
        yield bus


@pytest.mark.parametrize("part", [{}, {"sample": 10}])
async def test_they_are_audited_as_a_whole_and_by_samples(bus: Bus, part: dict[str, Any]) -> None:
    async def is_right() -> bool:
        audited = await Projections(bus).audit("largest", **part)
        return audited.compared == 1 and not audited.differences

    await until(is_right, "the one document is compared")


async def test_they_are_refolded_by_keys_of_documents_alone(bus: Bus) -> None:
    await Projections(bus).refold("largest", documents=["all"])
    with pytest.raises(ProjectionError, match="name the documents, or audit all"):
        await Projections(bus).refold("largest", streams=["purse-p3"])
