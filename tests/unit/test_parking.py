"""What streams that are set aside cost: how much is read for them, of the store and of the log."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import pytest

from bus.common import clock
from bus.data.payload import Document
from bus.failures.deadletters import settled_in_log
from bus.failures.give_up import GiveUp
from bus.messages import Envelope
from bus.read.parking import stuck
from bus.read.projector import Projector
from bus.stores.collections import Target
from bus.stores.control import Parked
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.testing.contracts.control_contract import letter
from bus.testing.contracts.projection_contract import Deposited, accounts
from bus.transports.base import Delivery, Frame
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.transports.topology import Topology, event_topic, projection_queues
from tests.unit.test_fold import stored
from tests.unit.test_projecting import consumer_of
from tests.waiting import until


class Records(MemoryControl):
    """Keeps what was read of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0
        self.letters: list[Document] = []

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        found = await super().parked(target, streams)
        self.rows += len(found)
        return found

    async def dead_letters(
        self,
        limit: int = 100,
        *,
        skip: int = 0,
        where: Mapping[str, str] = {},
        fields: Sequence[str] = (),
    ) -> list[Document]:
        found = await super().dead_letters(limit, skip=skip, where=where, fields=fields)
        self.letters += found
        return found


class Log(MemoryEventLog):
    """Counts how often it was read."""

    reads = 0

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        self.reads += 1
        return await super().read(stream, after, limit)


@pytest.fixture
def control() -> Records:
    return Records()


@pytest.fixture
def collections() -> MemoryCollections:
    return MemoryCollections()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def projector(log: Log, collections: MemoryCollections, control: Records) -> Projector:
    projection = accounts()
    await collections.prepare(projection.target())
    writer = collections.writer(projection.target(), "q")
    return Projector(
        projection, projection.target(), log, collections, control, writer, parks_all=True
    )


async def append(log: Log, *streams: str) -> list[Envelope]:
    """To each stream an event that its projection fails at; they come as its queue brings them."""
    events: list[Envelope] = []
    for stream in streams:
        commit = stored(stream, [Deposited(amount=-1)])
        await log.append([commit])
        events.append(Envelope(Deposited(amount=-1), stream, commit.time, "c", stream=stream,
                               version=1))  # fmt: skip
    return events


async def test_a_stream_that_is_parked_reads_no_rows_of_the_others(
    projector: Projector, log: Log, control: Records
) -> None:
    await projector.apply(await append(log, *[f"account-{number}" for number in range(50)]))
    assert len(await control.parked(projector.target)) == 50
    control.rows = 0
    await projector.apply(await append(log, "account-x"))
    assert projector.is_parked("account-x")
    assert control.rows == 0


async def test_an_event_of_a_parked_stream_reads_the_row_of_that_alone(
    projector: Projector, log: Log, control: Records
) -> None:
    events = await append(log, *[f"account-{number}" for number in range(50)])
    await projector.apply(events)
    control.rows = 0
    await projector.apply([*events[:1], *await append(log, "account-x")])
    assert control.rows == 1


def torn(stream: str, version: int) -> Frame:
    """An event that nobody can read."""
    headers: dict[str, str | int] = {"stream": stream, "version": version, "schema": 1}
    topic = event_topic("account", "Deposited", stream)
    return Frame("events", topic, clock.new_id(), "Deposited", b"{", clock.now(), "c", headers)


def dead(version: int, **fields: Any) -> Document:
    headers = {"stream": "account-a", "version": version}
    return letter(f"bank.accounts/e{version}", queue="bank.accounts", headers=headers, **fields)


async def test_what_health_tells_of_a_parked_stream_reads_no_whole_letters(
    projector: Projector, log: Log, control: Records
) -> None:
    await projector.apply(await append(log, "account-a"))
    await control.add_dead_letter(dead(1))
    await control.add_dead_letter(dead(2))
    (one,) = await stuck(control, projector.target)
    assert one.letters == ("bank.accounts/e1",)
    assert control.letters
    assert not any("body" in one for one in control.letters)


async def test_letters_that_the_log_has_settled_are_found_without_reading_them_whole(
    projector: Projector, log: Log, collections: MemoryCollections, control: Records
) -> None:
    commit = stored("account-a", [Deposited(amount=1)])
    await log.append([commit])
    await projector.apply_streams(["account-a"])
    await control.add_dead_letter(dead(1, error="InvalidMessage"))
    await control.add_dead_letter(dead(2, error="InvalidMessage"))
    queues, signals = ["bank.accounts"], projector.signals
    await settled_in_log(
        collections, control, projector.projection, projector.target, queues, signals=signals
    )
    assert await control.dead_letter_ids() == ["bank.accounts/e2"]
    assert not any("body" in one for one in control.letters)


async def test_what_cannot_be_read_of_the_event_that_a_stream_is_parked_at_reads_no_log(
    projector: Projector, log: Log, collections: MemoryCollections, control: Records
) -> None:
    """Its row tells that the log holds it; of another version, the log is asked."""
    await projector.apply(await append(log, "account-a"))
    transport = MemoryTransport(MemoryBroker(), "bank")
    given_up: list[int] = []

    async def give_up(delivery: Delivery, *_: object, **__: object) -> None:
        given_up.append(int(delivery.frame.headers["version"]))

    (queue,) = projection_queues("bank", "accounts", ["account"], 1)
    consumer = consumer_of(
        queue.name, projector, transport, collections, control, cast(GiveUp, give_up)
    )
    await transport.open()
    await transport.declare(Topology("bank", (queue,)))
    running = asyncio.create_task(consumer.run())
    log.reads = 0

    async def settled() -> bool:
        open = [one for one in transport.inboxes if not one.unsettled]
        return bool(open) and not await transport.depth(queue.name)

    await transport.publish([torn("account-a", 1), torn("account-a", 1)])
    await until(settled, "both are settled")
    assert (log.reads, given_up) == (0, [])
    await transport.publish([torn("account-a", 2)])
    await until(settled, "the third is settled")
    assert (log.reads, given_up) == (1, [2])
    await consumer.stop(1)
    await running
