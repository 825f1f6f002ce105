"""A collection is built in shares, by whoever is there."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from bus import Aggregate, Event, Projection, Update
from bus.codec import record
from bus.common import clock
from bus.data.payload import Document
from bus.read.projector import Projector
from bus.rebuild import builder
from bus.rebuild.builder import Builder, plan_from, plan_of
from bus.stores.collections import Target
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog

STREAMS = 40


class Paid(Event):
    amount: int


class Purse(Aggregate, events=[Paid]): ...


class View(BaseModel):
    total: int


purses = Projection("purses", of=[Purse], view=View)


@purses.on(Paid)
def paid(event: Paid) -> Update:
    return {"$inc": {"total": event.amount}}


class Dying(MemoryCollections):
    """Its process dies at one of the inserts."""

    def __init__(self) -> None:
        super().__init__()
        self.inserted: list[str] = []
        self.dies_at = 0

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        if len(self.inserted) >= self.dies_at > 0:
            raise KeyboardInterrupt
        self.inserted += [document["_id"] for document in documents]
        await super().insert(target, documents)
        await asyncio.sleep(0)


async def history() -> MemoryEventLog:
    log = MemoryEventLog()
    for number in range(STREAMS):
        for version in (1, 2):
            id = f"{number}/{version}"
            stream, events = f"purse-p{number:02}", (record(Paid(amount=version)),)
            await log.append([Commit(id, stream, "purse", version, events, clock.now(), id)])
    return log


def built_by(
    log: MemoryEventLog, collections: MemoryCollections, control: MemoryControl
) -> Builder:
    target = purses.target()
    writer = collections.writer(target, "build")
    projector = Projector(purses, target, log, collections, control, writer)
    return Builder(projector, log, collections, control)


async def documents(collections: MemoryCollections) -> dict[str, Any]:
    found = await collections.documents(purses.target()).find({})
    return {document["_id"]: document["total"] for document in found}


WHOLE = {f"p{number:02}": 3 for number in range(STREAMS)}


async def test_what_a_builder_did_before_it_died_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(builder, "LEASE", 0.2)
    log, collections, control = await history(), Dying(), MemoryControl()
    collections.dies_at = STREAMS // 2
    with pytest.raises(KeyboardInterrupt):
        await built_by(log, collections, control).run()
    first = set(collections.inserted)
    assert STREAMS // 2 <= len(first) < STREAMS
    collections.inserted, collections.dies_at = [], 0
    await built_by(log, collections, control).run()
    assert first.isdisjoint(collections.inserted)
    assert await documents(collections) == WHOLE


async def test_several_builders_share_the_work() -> None:
    log, collections, control = await history(), Dying(), MemoryControl()
    await asyncio.gather(*(built_by(log, collections, control).run() for _ in range(3)))
    assert await documents(collections) == WHOLE
    assert sorted(collections.inserted) == sorted(WHOLE)
    note = await control.note(plan_of("purses__v1"))
    plan = plan_from(note.value)
    assert (plan.is_done, plan.replayed, plan.commits) == (True, 2 * STREAMS, 2 * STREAMS)
