"""The publisher, over the in-memory pair."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from bus.codec import frames_of
from bus.common import clock
from bus.signing import Signing
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryControl, MemoryEventLog
from bus.transports.base import Frame
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.write.publisher import Publisher

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
