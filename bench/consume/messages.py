"""The event that our sides handle, and their queue filled with it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from bench import side
from bench.queues import AMQP_URL, data_of
from bus import Aggregate, Event
from bus.codec import event_frames, record
from bus.observe.log import configure_default
from bus.signing import EPOCH_NOTE, Notes, Sign, Signing
from bus.stores.control import Note
from bus.stores.event_log import Commit, EventLog
from bus.stores.memory import MemoryControl
from bus.transports.base import Frame
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.topology import Queue, Topology

AT_ONCE = 1000


class AccountOpened(Event):
    account_id: str
    owner: str
    note: str


class Account(Aggregate, events=[AccountOpened]): ...


async def know_the_key(notes: Notes) -> None:
    """Lets a service's processes sign, and verify, with one key; to be called before they open."""
    await notes.write_note(Note(EPOCH_NOTE, {"epoch": "bench", "key": "00" * 32}))


async def fill(arguments: side.Arguments, queue: Queue) -> None:
    """Role of a process of its own: fills the queue, and says when it is done."""
    service = arguments["service"]
    configure_default()
    transport = RabbitTransport([AMQP_URL], service=service)
    await transport.open()
    notes = MemoryControl()
    await know_the_key(notes)
    signing = Signing(notes)
    await signing.open()
    try:
        await transport.declare(Topology(service, (queue,)))
        for start in range(0, arguments["count"], AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, arguments["count"]))
            failures = await transport.publish(
                list(_frames(numbers, signing.sign)), must_route=True
            )
            for failure in failures.values():
                raise failure
    finally:
        await transport.close()
    await side.ready_until_stopped()


def _frames(numbers: range, sign: Sign) -> Iterator[Frame]:
    """What the bus publishes of commits with one event each."""
    for number in numbers:
        yield from event_frames(_commit(number), sign)


def _commit(number: int) -> Commit:
    return Commit(
        id=f"c{number}",
        stream=f"account-a{number}",
        category=Account.category,
        first=1,
        events=(record(AccountOpened(**data_of(number))),),
        time=datetime.now(UTC),
        correlation_id=f"c{number}",
    )


async def keep(log: EventLog, count: int) -> None:
    """Stores what the queue tells of, as published: a worker looks some of it up."""
    for start in range(0, count, AT_ONCE):
        commits = [_commit(number) for number in range(start, min(start + AT_ONCE, count))]
        await log.append(commits)
        await log.confirmed([commit.id for commit in commits])
