"""The publisher, over the in-memory pair."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus.codec import frames_of
from bus.common import clock
from bus.errors import BusError, TransportUnavailable
from bus.signing import Signing
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryControl, MemoryEventLog
from bus.transports.base import Frame
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.write.publisher import Publisher

pytestmark = pytest.mark.usefixtures("every_level")

LATER = clock.now().replace(year=2999)


async def test_nothing_is_published_before_the_queues_are_declared() -> None:
    """The broker would confirm an event that no queue takes yet, and its mark would go."""
    log, transport = MemoryEventLog(), MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    publisher = Publisher(log, transport)
    commit = opened("c1")
    await log.append([commit])
    assert await publisher.publish([commit], [frames_of(commit)]) == 0
    assert await log.pending(LATER, 10) == [commit]
    publisher.start()
    assert await publisher.publish([commit], [frames_of(commit)]) == 1
    assert await log.pending(LATER, 10) == []


class Overheard(MemoryTransport):
    """Keeps what was published."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker(), "bank")
        self.sent: list[Frame] = []

    async def publish(self, frames: Sequence[Frame], **options: Any) -> dict[str, Exception]:
        self.sent += frames
        return await super().publish(frames, **options)


async def test_events_leave_signed() -> None:
    """A worker believes them without it as well, and looks each of them up."""
    log, transport, signing = MemoryEventLog(), Overheard(), Signing(MemoryControl())
    await transport.open()
    await signing.open()
    publisher = Publisher(log, transport, signing.sign)
    publisher.start()
    commits = [opened("c1"), opened("c2")]
    await log.append(commits)
    await publisher.publish(commits, [frames_of(one) for one in commits])
    assert [signing.verify(frame) for frame in transport.sent] == [True, True]


class Refusing(MemoryTransport):
    """Refuses what `refuses` names, with that error."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker(), "bank")
        self.refuses: dict[str, Exception] = {}

    async def publish(self, frames: Sequence[Frame], **options: Any) -> dict[str, Exception]:
        named = {frame.id: frame.id.partition(":")[0] for frame in frames}
        return {id: self.refuses[name] for id, name in named.items() if name in self.refuses}


AWAY, REFUSED = TransportUnavailable("the broker is away"), BusError("no queue takes it")


async def test_an_outage_is_one_line_and_its_end_another_however_often_it_is_tried() -> None:
    log, transport = MemoryEventLog(), Refusing()
    publisher = Publisher(log, transport)
    publisher.start()
    commits = [opened("c1"), opened("c2")]
    frames = [frames_of(one) for one in commits]
    await log.append(commits)
    with capture_logs() as lines:
        transport.refuses = {"c1": AWAY, "c2": AWAY}
        for _ in range(3):
            publisher.offer(commits, frames)
            await asyncio.sleep(0.01)
            assert await publisher.publish(commits, frames) == 0
        transport.refuses = {}
        assert await publisher.publish(commits, frames) == 2
        assert await publisher.publish([], []) == 0
    await publisher.close()
    assert [line["event"] for line in lines] == ["not_published", "publishing_again"]
    assert lines[1]["were_left_to_the_relay"] == 6  # and not what the relay failed at


async def test_one_that_is_refused_each_time_is_one_line_and_hides_no_outage() -> None:
    log, transport = MemoryEventLog(), Refusing()
    publisher = Publisher(log, transport)
    publisher.start()
    bad, good = opened("bad"), opened("good")
    await log.append([bad, good])

    async def offer() -> None:
        publisher.offer([good], [frames_of(good)])
        await asyncio.sleep(0.01)

    with capture_logs() as lines:
        transport.refuses = {"bad": REFUSED}
        for _ in range(3):
            assert await publisher.publish([bad], [frames_of(bad)]) == 0
            await offer()
        transport.refuses = {"bad": REFUSED, "good": AWAY}
        await offer()
        transport.refuses = {"bad": REFUSED}
        await offer()
    await publisher.close()
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("error", "not_published"),
        ("warning", "not_published"),
        ("info", "publishing_again"),
    ]


async def test_a_relay_that_stands_by_hides_no_outage() -> None:
    log, transport = MemoryEventLog(), Refusing()
    publisher = Publisher(log, transport)
    publisher.start()
    commit = opened("c1")
    await log.append([commit])
    transport.refuses = {"c1": AWAY}
    with capture_logs() as lines:
        for _ in range(2):
            await publisher.publish([commit], [frames_of(commit)])
            publisher.stand_by()
    await publisher.close()
    assert [line["event"] for line in lines] == ["not_published"] * 2


class SlowLog(MemoryEventLog):
    """Takes its time to clear marks."""

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        await asyncio.sleep(0)
        await super().confirmed(commit_ids)


class TurnedTransport(MemoryTransport):
    """Confirms what was published later the sooner, so that confirms and marks cross."""

    async def publish(
        self,
        frames: Sequence[Frame],
        *,
        must_route: bool = False,
        checked: bool = False,
        timeout: float = 10.0,
    ) -> dict[str, Exception]:
        for _ in range(7 - int(frames[0].id.partition(":")[0]) % 7):
            await asyncio.sleep(0)
        return await super().publish(
            frames, must_route=must_route, checked=checked, timeout=timeout
        )


async def test_no_mark_stays_however_confirms_and_marks_cross() -> None:
    log, transport = SlowLog(), TurnedTransport(MemoryBroker(), "bank")
    await transport.open()
    publisher = Publisher(log, transport)
    publisher.start()
    for number in range(50):
        commit = opened(str(number))
        await log.append([commit])
        publisher.offer([commit], [frames_of(commit)])
        await asyncio.sleep(0)
    await publisher.close()
    assert await log.pending(LATER, 100) == []


OF_THE_CALLER = ContextVar("OF_THE_CALLER", default="nothing")


class LookingLog(MemoryEventLog):
    """Notes what of a caller's context reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        self.seen.append(OF_THE_CALLER.get())
        await super().confirmed(commit_ids)


async def test_marks_are_cleared_outside_the_callers_context() -> None:
    """A caller's `pymongo.timeout` would bound the clearing of everybody's marks."""
    log, transport = LookingLog(), MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    publisher = Publisher(log, transport)
    publisher.start()
    commit = opened("c1")
    await log.append([commit])
    OF_THE_CALLER.set("a deadline")
    publisher.offer([commit], [frames_of(commit)])
    await asyncio.sleep(0)
    await publisher.close()
    assert log.seen == ["nothing"]


def opened(id: str) -> Commit:
    event = Recorded("Opened", 1, {})
    return Commit(id, f"account-{id}", "account", 1, (event,), clock.now(), id)
