"""A transport and stores that break: wrappers of the in-memory pair, with the same methods."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bus.dispatch.middleware import Middleware, Next
from bus.errors import TransportUnavailable
from bus.messages import Envelope, Query
from bus.stores.collections import Changes, Fold, ReadUnit, Target
from bus.stores.event_log import Commit
from bus.stores.session import Handling
from bus.testing.clock import FastTime
from bus.testing.simulation.faults import Life
from bus.transports.base import Delivery, Frame
from bus.transports.memory.transport import MemoryBroker, MemoryInbox, MemoryTransport

Call = Callable[..., Awaitable[Any]]

HELD = 0.005
"""How long a delayed delivery waits, in seconds, unless others arrive."""

UNHARMED = frozenset({"open", "close", "prepare", "note", "write_note"})
"""Calls made when a process starts and ends: they never fail, but end with the process's life."""


class HastyBroker(MemoryBroker):
    """A broker whose delays follow the world's clock. `delayed` counts what waits, `returned` how
    often each message has waited, by its queue, name and id."""

    def __init__(self, clock: FastTime) -> None:
        super().__init__()
        self.delayed = 0
        self.returned: Counter[tuple[str, str, str]] = Counter()
        self._clock = clock

    def until_next(self) -> float | None:
        """Returns the seconds until the next message comes back; None if none waits."""
        return self._clock.until_next()

    def _delay(self, frame: Frame) -> bool:
        seconds = int(frame.address.removeprefix("delay.").removesuffix("s"))
        self.delayed += 1
        self._clock.call_later(seconds, partial(self._return, frame))
        return True

    def _return(self, frame: Frame) -> None:
        self.delayed -= 1
        self.returned[frame.topic, frame.name, frame.id] += 1
        self.queue(frame.topic).put(frame._replace(address=""))


class Mortal:
    """Wraps an object so that its calls end with its process's life."""

    def __init__(self, inner: Any, life: Life) -> None:
        self._inner = inner
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._wrapped(found) if inspect.iscoroutinefunction(found) else found

    def _wrapped(self, call: Call) -> Call:
        async def mortal(*arguments: Any, **named: Any) -> Any:
            await self._life.goes_on()
            return await call(*arguments, **named)

        return mortal


class Fragile(Mortal):
    """Wraps an object of a store so that its calls sometimes fail."""

    def _wrapped(self, call: Call) -> Call:
        if call.__name__ in UNHARMED:
            return super()._wrapped(call)

        async def fragile(*arguments: Any, **named: Any) -> Any:
            return await self._life.risk(partial(call, *arguments, **named))

        return fragile


class BrokenEventLog(Fragile):
    """An event log whose writes and answers sometimes get lost."""

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        async with self._life.step("commit"):
            return await self._life.risk(partial(self._inner.append, commits))

    async def confirmed(self, commit_ids: Sequence[str]) -> None:
        async with self._life.step("mark"):
            await self._life.risk(partial(self._inner.confirmed, commit_ids))


class BrokenEffects(Fragile):
    """Transactions of handlers that fail before or after they commit."""

    async def once(self, id: str, handling: Handling) -> Sequence[Commit] | None:
        once = partial(self._inner.once, id)
        stored: Sequence[Commit] | None = await self._transaction(once, handling)
        return stored

    async def commit(self, handling: Handling) -> Sequence[Commit]:
        stored: Sequence[Commit] = await self._transaction(self._inner.commit, handling)
        return stored

    async def _transaction(self, run: Call, handling: Handling) -> Any:
        async def handled(session: Any) -> Sequence[Commit]:
            commits = await handling(session)
            await self._life.reach("commit", "before")
            return commits

        stored = await self._life.risk(partial(run, handled))
        await self._life.reach("commit", "after")
        return stored


class BrokenFeed(Fragile):
    """A feed whose readers fail, and are read again from where they were settled."""

    def reader(self, owner: str, group: str) -> Fragile:
        return Fragile(self._inner.reader(owner, group), self._life)


class BrokenCollections(Fragile):
    """Collections whose writes and answers sometimes get lost."""

    def documents(self, target: Target) -> Fragile:
        return Fragile(self._inner.documents(target), self._life)

    def writer(self, target: Target, queue: str) -> "BrokenWriter":
        return BrokenWriter(self._inner.writer(target, queue), self._life)


class BrokenWriter(Fragile):
    """A writer that fails while it folds, or before or after it commits."""

    async def transact(
        self, streams: Sequence[str], fold: Fold, *, believed: Mapping[str, int] | None = None
    ) -> Changes:
        async def folding(unit: ReadUnit) -> Changes:
            async with self._life.step("project"):
                return await fold(unit)

        async with self._life.step("checkpoint"):
            transact = partial(self._inner.transact, streams, folding, believed=believed)
            return await self._life.risk(transact)


class BrokenTransport(Mortal):
    """A transport whose publishes get no answer, and whose deliveries go astray."""

    _inner: MemoryTransport

    async def publish(
        self,
        frames: Sequence[Frame],
        *,
        must_route: bool = False,
        checked: bool = False,
        timeout: float = 10.0,
    ) -> dict[str, Exception]:
        async with self._life.step("publish"):
            unanswered = [frame for frame in frames if self._life.fate.strikes("publish")]
            lost = [f for f in unanswered if self._life.fate.chance("arrived").random() < 0.5]
            arriving = [frame for frame in frames if frame not in lost]
            failures = await self._inner.publish(arriving, must_route=must_route, checked=checked)
            return failures | {
                frame.id: TransportUnavailable("chaos: no answer in time; it may have arrived")
                for frame in unanswered
            }

    async def inbox(self, queue: str, *, prefetch: int) -> "BrokenInbox":
        await self._life.goes_on()
        return BrokenInbox(await self._inner.inbox(queue, prefetch=prefetch), self._life)


class BrokenInbox(Mortal):
    """An inbox whose deliveries come late, twice or in any order, and whose acknowledgements get
    lost."""

    _inner: MemoryInbox

    def __init__(self, inner: MemoryInbox, life: Life) -> None:
        super().__init__(inner, life)
        self._held: list[Delivery] = []

    async def take(self, limit: int) -> list[Delivery]:
        while True:
            await self._life.goes_on()
            arrived = await self._arrived(limit)
            await self._life.goes_on()
            found = await self._befallen(arrived, limit)
            if found or not arrived:
                return found

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        async with self._life.step("acknowledge"):
            forgotten = [d for d in deliveries if self._life.fate.strikes("forget")]
            await self._inner.acknowledge([d for d in deliveries if d not in forgotten])
            await self._inner.release(forgotten)

    async def _arrived(self, limit: int) -> list[Delivery]:
        """Returns what was held back, and what has arrived since."""
        arrived: list[Delivery] = []
        try:
            async with asyncio.timeout(HELD if self._held else None):
                arrived = await self._inner.take(max(1, limit - len(self._held)))
        except TimeoutError:
            pass
        held, self._held = self._held, []
        return held + arrived

    async def _befallen(self, arrived: Sequence[Delivery], limit: int) -> list[Delivery]:
        fate = self._life.fate
        found: list[Delivery] = []
        for delivery in arrived:
            if fate.strikes("lose") and self._inner.is_alone:
                await self._inner.acknowledge([delivery])
            elif fate.strikes("drop"):
                await self._inner.release([delivery])
            elif fate.strikes("delay"):
                self._held.append(delivery)
            else:
                found += [delivery] * (1 + fate.strikes("duplicate"))
        if fate.strikes("reorder"):
            fate.chance("order").shuffle(found)
        self._held += found[limit:]
        return found[:limit]


def handling(life: Life) -> Middleware:
    """Returns a middleware that makes each run of a command's or event's handler a step."""

    async def handle(envelope: Envelope, following: Next) -> Any:
        if isinstance(envelope.message, Query):
            return await following(envelope)
        async with life.step("handle"):
            return await following(envelope)

    return handle
