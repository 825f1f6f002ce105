"""Continuity in memory: what was dropped stands still, is told, and is recovered."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

import pytest

from bus import (
    Bus,
    Discontinued,
    Increment,
    Projection,
    Recovery,
    Settings,
    StoreUnavailable,
    Worker,
)
from bus.common import clock
from bus.continuity import continuity
from bus.continuity.continuity import RECORD, Continuity, Record, record_from
from bus.data.payload import Document
from bus.stores.collections import Collections
from bus.stores.control import Control, Note
from bus.stores.sinks.memory import MemorySink
from bus.transports.base import Delivery, Frame
from bus.transports.topology import event_topic
from tests.service.parcels import signed
from tests.service.rebuild_contract import (
    CountPurses,
    GetBank,
    GetPurse,
    Paid,
    Purse,
    PurseView,
    paid_into,
)
from tests.service.rebuild_contract import service as purses
from tests.unit.test_sending_events import Tapes
from tests.waiting import until


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(continuity, "TURN_EVERY", 0)


def knowing(
    bus: Bus, collections: Collections | None = None, control: Control | None = None
) -> Continuity:
    """What another process knows, which reaches its stores by another way."""
    runtime = bus.runtime
    return Continuity(
        runtime.event_log,
        collections or runtime.collections,
        control or runtime.control,
        runtime.catalogue,
        runtime.projections,
        runtime.signing,
        runtime.loops,
    )


async def record_of(bus: Bus) -> Record:
    return record_from((await bus.runtime.control.note(RECORD)).value)


async def test_what_is_there_is_written_down_in_two_places() -> None:
    async with purses(Settings.in_memory(), "bank") as bus:
        await paid_into(bus, 1)
        collections = bus.runtime.collections
        await bus.runtime.continuity.note_turn(await collections.identities(), {})
        record = await record_of(bus)
        assert record.collections.keys() == {"purses__v1", "banks__v1"}
        assert await bus.runtime.event_log.held([record.commit])
        assert record_from(await collections.seal()).turn >= record.before
        assert await bus.runtime.continuity.problem() is None


async def test_a_read_collection_that_is_dropped_in_memory_is_built_anew() -> None:
    async with purses(Settings.in_memory(), "bank") as bus, Worker(bus):
        receipt = await paid_into(bus, 3)
        await bus.query(GetBank(), after=receipt)
        await bus.query(GetPurse(purse_id="p2"), after=receipt)
        runtime = bus.runtime
        await runtime.continuity.note_turn(await runtime.collections.identities(), {})
        (projection,) = (one for one in runtime.projections if one.name == "purses")
        await runtime.collections.drop(projection.target())
        await until(lambda: runtime.continuity.problem(), "it is noticed")
        with pytest.raises(Discontinued, match="'purses__v1' was dropped"):
            runtime.continuity.check("purses__v1")
        runtime.continuity.check("banks__v1")
        assert (await Recovery(bus).run()).rebuilt == ("purses__v1",)
        assert await bus.query(CountPurses()) == 3
        assert await bus.query(GetPurse(purse_id="p0")) == PurseView(id="p0", total=1)
        assert await runtime.continuity.problem() is None


async def test_a_collection_that_is_dropped_on_purpose_is_no_problem() -> None:
    async with purses(Settings.in_memory(), "bank") as bus:
        await bus.runtime.continuity.note_turn(await bus.runtime.collections.identities(), {})
        await bus.runtime.continuity.forget("purses__v1")
        assert (await record_of(bus)).collections.keys() == {"banks__v1"}


class Dying:
    """A store whose process dies whenever it is about to seal a record for the first time."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._seen: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collections, name)

    async def set_seal(self, value: Document) -> None:
        if value["turn"] not in self._seen:
            self._seen.add(value["turn"])
            raise StoreUnavailable("it dies here")
        await self._collections.set_seal(value)


async def test_records_that_nobody_came_to_seal_are_no_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "TURN_EVERY", -60)  # each look writes another record
    async with purses(Settings.in_memory(), "bank") as bus:
        dying = knowing(bus, cast(Collections, Dying(bus.runtime.collections)))
        for _ in range(4):
            with pytest.raises(StoreUnavailable):
                await dying.look()
        assert await dying.problem() is None
        assert (await record_of(bus)).broken == {}


async def test_records_of_two_processes_that_both_die_before_they_seal_them_are_no_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 60)
    monkeypatch.setattr(continuity, "AGAIN_AFTER", 0)
    async with purses(Settings.in_memory(), "bank") as bus:
        collections = bus.runtime.collections
        here = await collections.identities()
        for _ in range(2):  # both had looked before either wrote
            with pytest.raises(StoreUnavailable):
                await knowing(bus, cast(Collections, Dying(collections))).note_turn(here, {})
        await bus.runtime.continuity.look()
        assert await bus.runtime.continuity.problem() is None


class Recovering:
    """A store in which another process lets go of a collection while it is looked through."""

    def __init__(self, collections: Collections, forget: Callable[[], Awaitable[None]]) -> None:
        self._collections = collections
        self._forget = forget

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collections, name)

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        await self._forget()
        return await self._collections.identities(names)


async def test_what_another_process_recovers_during_a_look_is_no_more_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 60)
    async with purses(Settings.in_memory(), "bank") as bus:
        own, here = bus.runtime.continuity, await bus.runtime.collections.identities()
        await own.note_turn(here, {"purses__v1": "it is being built anew"})
        recovering = Recovering(bus.runtime.collections, lambda: own.forget("purses__v1"))
        await knowing(bus, cast(Collections, recovering)).look()
        assert (await record_of(bus)).broken == {}


class JustElected:
    """A store that tells of an earlier record than a majority holds, until it has written."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.earlier: Note | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)

    async def note(self, key: str) -> Note:
        return self.earlier or await self._control.note(key)

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        self.earlier = None
        return await self._control.lease(name, owner, seconds)


async def test_a_primary_that_does_not_know_yet_what_a_majority_holds_is_no_older_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 60)
    monkeypatch.setattr(continuity, "AGAIN_AFTER", 0)
    async with purses(Settings.in_memory(), "bank") as bus:
        control = JustElected(bus.runtime.control)
        one = knowing(bus, control=cast(Control, control))
        earlier = await control.note(RECORD)
        await one.note_turn(await bus.runtime.collections.identities(), {})
        await one.look()
        control.earlier = earlier
        await one.look()
        assert await one.problem() is None


async def test_a_record_of_an_earlier_turn_than_is_known_is_an_older_database() -> None:
    async with purses(Settings.in_memory(), "bank") as bus:
        runtime = bus.runtime
        for _ in range(3):
            await runtime.continuity.note_turn(await runtime.collections.identities(), {})
            await runtime.continuity.look()
        note = await runtime.control.note(RECORD)
        older = record_from(note.value)._replace(turn=1, before=0)
        await runtime.control.write_note(note._replace(value=older.document()))
        await runtime.continuity.look()
        assert "commits" in runtime.continuity.broken
        await Recovery(bus).run()
        assert runtime.continuity.broken == {}


async def test_a_loss_that_is_found_while_another_process_recovers_is_not_noted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 60)
    monkeypatch.setattr(continuity, "AGAIN_AFTER", 0.2)
    async with purses(Settings.in_memory(), "bank") as bus:
        runtime = bus.runtime
        await runtime.continuity.note_turn(await runtime.collections.identities(), {})
        lost = lost_event(bus)
        with pytest.raises(Discontinued):
            await knowing(bus).vouch("purses", [lost])
        vouching = asyncio.create_task(knowing(bus).vouch("purses", [lost]))
        await asyncio.sleep(0.1)
        await Recovery(bus).run()
        await vouching  # of an epoch that has ended, so that nobody believes it
        assert (await record_of(bus)).broken == {}
        await knowing(bus).vouch("purses", [lost])


async def test_a_loss_that_is_found_beside_a_new_record_is_noted_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 60)
    monkeypatch.setattr(continuity, "AGAIN_AFTER", 0)
    async with purses(Settings.in_memory(), "bank") as bus:
        runtime = bus.runtime
        here = await runtime.collections.identities()
        await runtime.continuity.note_turn(here, {})
        lost = lost_event(bus)
        control = Overtaken(runtime.control, lambda: runtime.continuity.note_turn(here, {}))
        for _ in range(2):
            one = knowing(bus, control=cast(Control, control))
            with pytest.raises(Discontinued, match="lost:1"):
                await one.vouch("purses", [lost])
        assert "commits" in (await record_of(bus)).broken


class Overtaken:
    """A store in which another process writes a record once this one has read the last."""

    def __init__(self, control: Control, write: Callable[[], Awaitable[None]]) -> None:
        self._control = control
        self._write: Callable[[], Awaitable[None]] | None = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)

    async def note(self, key: str) -> Note:
        note = await self._control.note(key)
        write, self._write = self._write, None
        if write is not None:
            await write()
        return note


def lost_event(bus: Bus) -> Delivery:
    """An event that this service has signed, and that its log lacks."""
    headers: dict[str, str | int] = {"stream": "purse-a", "version": 1, "schema": 1}
    topic = event_topic("purse", "Paid", "purse-a")
    frame = Frame("events", topic, "lost:1", "Paid", b"{}", clock.now(), "c", headers)
    return Delivery(signed(bus, frame), "purses", tag=1, generation=1, redelivered=False)


async def test_lost_checkpoints_rebuild_what_stands_on_them_and_no_sink_with_its_own_versions() -> (
    None
):
    def banked(event: Paid) -> Any:
        return Increment(total=event.amount)

    apart: Projection[Any] = Projection("apart", of=[Purse], sink=MemorySink())
    apart.on(Paid, key=lambda event: event.bank)(banked)
    sent: Projection[Any] = Projection("sent", of=[Purse], sink=Tapes())
    declared = Bus("bank", projections=[apart, sent], settings=Settings.in_memory())
    async with declared as bus:
        runtime = bus.runtime
        assert not any(target.versions_in_documents for target in await runtime.targets())
        lost = {"checkpoints": "'checkpoints' was dropped"}
        await runtime.continuity.note_turn(await runtime.collections.identities(), lost)
        assert (await Recovery(bus).plan()).rebuilt == ("sent__v1",)
