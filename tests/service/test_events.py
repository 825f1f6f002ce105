"""The log is looked into: streams, conversations, what is stored just now, and unknown names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from bus import Bus, DeadLetters, Event, EventCount, Events, Settings, TraceEntry, Worker
from tests.service.runs import Start, build
from tests.waiting import patience, until


class Forgotten(Event):
    """Nobody in the service has a class for it."""

    number: int


@pytest.fixture
async def bus(settings: Settings, unique: str) -> AsyncIterator[Bus]:
    async with build(settings, unique) as bus:
        yield bus


def shown(rows: list[TraceEntry]) -> list[str]:
    return ["  " * one.depth + f"{one.kind} {one.name}" for one in rows]


async def test_a_streams_events_are_shown_with_their_ids_and_data(bus: Bus) -> None:
    async with Worker(bus):
        receipt = await bus.execute(Start(run_id="a", note="n"), correlation_id="talk")

        async def two() -> bool:
            return len(await bus.runtime.event_log.read("run-a")) == 2

        await until(two, "the run is finished")
    started, finished = [one async for one in Events(bus).show("run-a")]
    assert (started.stream, started.version, started.name) == ("run-a", 1, "Started")
    assert (started.id, started.causation_id) == (f"{receipt.id}:1", receipt.id)
    assert (started.schema, started.data) == (1, {"run_id": "a", "note": "n"})
    assert (finished.version, finished.correlation_id) == (2, "talk")
    assert [one async for one in Events(bus).show("run-a", after=1)] == [finished]
    assert [one async for one in Events(bus).show("run-b")] == []


async def test_a_long_stream_is_shown_whole(bus: Bus) -> None:
    commits = [Start(run_id=f"{number}") for number in range(3)]
    for command in commits:
        await bus.execute(command)
    (first,) = await bus.runtime.event_log.read("run-0")
    for number in range(1200):
        more = first._replace(id=f"more{number}", first=2 + 2 * number, events=first.events * 2)
        await bus.runtime.event_log.append([more])
    versions = [one.version async for one in Events(bus).show("run-0", after=2)]
    assert versions == [*range(3, 2402)]


async def test_a_tail_shows_the_last_events_and_then_each_as_it_is_stored(bus: Bus) -> None:
    for number in range(5):
        await bus.execute(Start(run_id=f"old{number}"))
    async with aclosing(Events(bus).tail(category="run", last=2)) as following:
        seen = [(await anext(following)).stream for _ in range(2)]
        await bus.publish(Forgotten(number=1))
        await bus.execute(Start(run_id="new"))
        async with asyncio.timeout(30 * patience()):
            seen.append((await anext(following)).stream)
    assert seen == ["run-old3", "run-old4", "run-new"]


async def test_a_conversation_is_told_from_its_command_to_what_that_led_to(bus: Bus) -> None:
    events = Events(bus)
    async with Worker(bus):
        other = await bus.execute(Start(run_id="other"))
        receipt = await bus.execute(Start(run_id="a"))

        async def whole() -> list[TraceEntry] | None:
            told = await events.trace(receipt.id)
            return told if len(told) == 4 else None

        rows: list[TraceEntry] = await until(whole, "the conversation has four messages")
    assert shown(rows) == [
        "command Start",
        "  event Started",
        "    command Finish",
        "      event Finished",
    ]
    start, started, finish, finished = rows
    assert (start.id, start.cause, start.note) == (receipt.id, "", "")
    assert (started.id, started.cause, started.stream) == (f"{receipt.id}:1", start.id, "run-a")
    assert (finished.version, finished.cause) == (2, finish.id)
    assert None not in (start.time, started.time, finish.time)
    assert other.id not in {row.id for row in rows}
    assert await events.trace("none") == []


async def test_what_is_sent_and_not_carried_out_yet_is_told(bus: Bus) -> None:
    receipt = await bus.execute(Start(run_id="a"))
    async with Worker(bus, only=["finishing"]):

        async def sent() -> list[TraceEntry] | None:
            told = await Events(bus).trace(receipt.id)
            return told if len(told) == 3 else None

        rows: list[TraceEntry] = await until(sent, "the command is sent")
    assert (rows[2].name, rows[2].time, rows[2].note) == ("Finish", None, "not carried out")


async def test_what_a_conversation_lost_is_told_beneath_what_was_lost(bus: Bus) -> None:
    """A dead letter with the fault that tells of it, and events that a parked stream holds up."""
    async with Worker(bus):
        rejected = await bus.execute(Start(run_id="a", note="rejected"))
        stuck = await bus.execute(Start(run_id="b", note="stuck"))

        async def both() -> bool:
            return len(await DeadLetters(bus).list()) == 2

        await until(both, "one is given up, and one is parked")
        told = await Events(bus).trace(rejected.id)
        parked = await Events(bus).trace(stuck.id)
    service = bus.service
    assert shown(told)[3:] == [
        "      event Finished",
        "        event Fault",
        f"        dead letter {service}.mails",
    ]
    assert (told[-1].note, told[-1].cause) == ("Reject: no address", told[3].id)
    assert shown(parked)[3:] == ["      event Finished", f"        dead letter {service}.runs"]
    assert parked[-1].note == "ValueError: cannot be projected"


async def test_a_conversation_whose_id_tells_no_time_is_found_too(bus: Bus) -> None:
    await bus.execute(Start(run_id="a"), correlation_id="order 7")
    assert shown(await Events(bus).trace("order 7")) == ["command Start", "  event Started"]


async def test_a_fact_that_was_published_begins_its_conversation(bus: Bus) -> None:
    receipt = await bus.publish(Forgotten(number=1))
    assert shown(await Events(bus).trace(receipt.id)) == ["event Forgotten"]


async def test_names_that_nobody_has_a_class_for_are_counted(bus: Bus) -> None:
    assert await Events(bus).unknown() == []
    before = bus.runtime.event_log.now()
    receipts = [await bus.publish(Forgotten(number=number)) for number in range(3)]
    await bus.execute(Start(run_id="a"))
    (told,) = await Events(bus).unknown()
    streams = [stream for receipt in receipts for stream in receipt.versions]
    assert told == EventCount(
        "Forgotten", bus.service, 3, told.first, told.last, told.stream, told.version
    )
    assert before <= told.first <= told.last <= bus.runtime.event_log.now()
    assert (told.stream in streams, told.version) == (True, 1)
