"""Sinks that take the events themselves: every event once it was acknowledged, in its order."""

from collections.abc import Sequence
from typing import Any

import pytest

from bus import (
    Bus,
    ConfigurationError,
    Projection,
    ProjectionError,
    Projections,
    Settings,
    StoreUnavailable,
    Worker,
)
from bus.common import clock
from bus.stores.collections import Changes, Target, Write
from bus.stores.memory import MemoryCollections
from bus.stores.sinks.sent import EventSink, Outlet, SentEvent, SentPlace
from tests.service.sending import Account, Opened, Paid, Pay, bank, in_order
from tests.waiting import until


class Tape(Outlet):
    """Keeps what it is sent, and fails when it is told to."""

    def __init__(self) -> None:
        self.events: list[SentEvent] = []
        self.failures: list[Exception] = []
        self.after: list[Exception] = []

    async def open(self, *, makes: bool = True) -> None: ...

    async def close(self) -> None: ...

    async def prepare(self) -> Sequence[str]:
        return ()

    async def send(self, events: Sequence[SentEvent]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.events += events
        if self.after:
            raise self.after.pop(0)

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(event.stream, event.version) for event in self.events]


class Tapes(EventSink):
    """Sends to a tape, but for what is worth more than `most`."""

    kind = "tape"

    def __init__(self, most: int = 1000) -> None:
        self.tape = Tape()
        self.most = most

    def outlet(self, service: str) -> Tape:
        return self.tape

    def check(self, key: object, change: SentEvent) -> None:
        if change.data.get("amount", 0) > self.most:
            raise ProjectionError(f"{change.data['amount']} is too much")


def tell(sink: Tapes) -> Bus:
    return bank(Settings.in_memory(), "bank", sink)


async def test_every_event_is_sent_whole_and_in_order_with_what_was_before() -> None:
    sink = Tapes()
    async with tell(sink) as bus:
        await bus.execute(Pay(account_id="a", amount=1))
        async with Worker(bus):
            await bus.execute(Pay(account_id="b", amount=2))
            await bus.execute(Pay(account_id="a", amount=3), id="third")
            await until(lambda: len(sink.tape.events) == 5, "five events")
    assert in_order(sink.tape.places)
    last = next(event for event in sink.tape.events if event.version == 3)
    assert (last.id, last.name, last.schema) == ("third:1", Paid.wire_name, 1)
    assert (last.data, last.stream, last.causation_id) == (
        {"amount": 3, "note": ""},
        "account-a",
        "third",
    )


async def test_what_was_sent_and_not_noted_is_sent_again_in_order() -> None:
    sink = Tapes()
    sink.tape.failures = [StoreUnavailable("away")]
    sink.tape.after = [StoreUnavailable("no answer"), StoreUnavailable("no answer")]
    async with tell(sink) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a", amount=1))
        await bus.execute(Pay(account_id="a", amount=2))
        await until(lambda: len(set(sink.tape.places)) == 3, "all three")
        await until(lambda: len(sink.tape.places) > 3 and not sink.tape.after, "the repeats")
    assert in_order(sink.tape.places)


async def test_an_event_that_is_refused_parks_its_stream_at_it_and_no_other() -> None:
    sink = Tapes(most=10)
    async with tell(sink) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a", amount=1))
        await bus.execute(Pay(account_id="a", amount=11))
        await bus.execute(Pay(account_id="a", amount=2))
        await bus.execute(Pay(account_id="b", amount=3))
        await until(lambda: ("account-b", 2) in sink.tape.places, "the other stream")

        async def is_parked() -> bool:
            (status,) = await Projections(bus).status()
            return status.parked == 1

        await until(is_parked, "the parked stream")
        assert [v for s, v in sink.tape.places if s == "account-a"] == [1, 2]
        sink.most = 1000
        await until(lambda: ("account-a", 4) in sink.tape.places, "the rest", within=120)
    assert in_order(sink.tape.places)


async def test_a_rebuild_sends_everything_again() -> None:
    sink = Tapes()
    async with tell(sink) as bus, Worker(bus):
        for amount in range(3):
            await bus.execute(Pay(account_id="a", amount=amount))
        await until(lambda: len(sink.tape.places) == 4, "the events")
        await Projections(bus).rebuild("sent")
        await until(lambda: len(sink.tape.places) == 8, "the repeats")
    assert sink.tape.places[:4] == sink.tape.places[4:]


async def test_an_audit_is_refused_with_a_reason() -> None:
    async with tell(Tapes()) as bus, Worker(bus):
        with pytest.raises(ConfigurationError, match="Tapes is not"):
            await Projections(bus).audit("sent")


def test_a_handler_that_would_never_run_is_refused() -> None:
    projection: Projection[Any] = Projection("tape", of=[Account], sink=Tapes())
    with pytest.raises(ConfigurationError, match="is sent every event"):
        projection.on(Opened)(lambda event: None)


TARGET = Target("tape", "tape__v1", versions_in_documents=False, place="tape")


async def test_a_writer_that_was_overtaken_repeats_and_notes_nothing() -> None:
    tape = Tape()
    own = MemoryCollections()
    early, late = SentPlace(tape), SentPlace(tape)
    early.keep_versions_in(own)
    late.keep_versions_in(own)
    assert await early.write(TARGET, sent(1, 2), {"account-a": 0})
    assert await late.write(TARGET, sent(3, 4), {"account-a": 2})
    # It takes version 2 for the last, as it was when it stood still.
    assert not await early.write(TARGET, sent(3), {"account-a": 2})
    assert await early.versions(TARGET, ["account-a"]) == {"account-a": 4}
    assert in_order(tape.places)
    assert not await early.write(TARGET, sent(9), {"account-a": 8}), "it was not sent up to 8"
    assert in_order(tape.places)


def sent(*versions: int) -> Changes:
    writes = [Write("account-a", event(version)) for version in versions]
    return Changes(writes, {"account-a": versions[-1]})


def event(version: int) -> SentEvent:
    time = clock.now()
    return SentEvent(f"c{version}:1", "paid", 1, {}, "account-a", version, time, "c", "c")
