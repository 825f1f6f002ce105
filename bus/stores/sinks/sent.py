"""Sinks that take the events themselves, whatever their classes: a topic, a stream elsewhere.

Such a place can only be sent to. The versions that it has reached are among the service's own
checkpoints, and advance once it has acknowledged what was sent. A process that dies in between has
the same sent again; nobody sends an event before the one before it was acknowledged.
"""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from bus.common import clock
from bus.errors import ConfigurationError
from bus.messages import Envelope, Event
from bus.observe.health import Examined, Finding
from bus.stores.collections import Changes, Collections, ReadUnit, Target, Write, Writer
from bus.stores.event_log import Recorded
from bus.stores.sink import Place, Sink
from bus.stores.sinks.placed import SinkWriter

KNOWN = 100_000
"""Of how many streams one process remembers the versions, for each collection."""


class SentEvent(NamedTuple):
    """An event as it leaves: its data as JSON types, in the shape in which it was recorded."""

    id: str
    name: str
    schema: int
    data: Mapping[str, Any]
    stream: str
    version: int
    time: datetime
    correlation_id: str
    causation_id: str
    headers: Mapping[str, str] = {}


class Whole(Event):
    """Stands for an event that is passed on as it is, and never read as its class."""

    recorded: Recorded


class EveryEvent(dict[str, Any]):
    """A registry of no classes, whose reader takes every event as `Whole`."""


def whole(recorded: Recorded) -> Whole:
    return Whole.model_construct(recorded=recorded)


class Outlet(Protocol):
    """Where events are sent."""

    async def open(self, *, makes: bool = True) -> None:
        """Connects. Other methods may be called even if this failed, and connect then.

        Raises: StoreUnavailable, ConfigurationError."""
        ...

    async def close(self) -> None:
        """Ends its own tasks and connections."""
        ...

    async def prepare(self) -> Sequence[str]:
        """Makes where it sends to, if that does not exist. Returns what differs from the
        declaration, each with its remedy. Raises: StoreUnavailable, ConfigurationError."""
        ...

    async def send(self, events: Sequence[SentEvent]) -> None:
        """Sends them, those of one stream in their order, and waits until all are acknowledged.

        An event is never sent once one before it, of the same stream, was refused. Raises:
        ProjectionError (one is refused), StoreUnavailable (some may have been sent)."""
        ...


class EventSink(Sink):
    """Declares where a projection's events go. The projection has no handlers, because every event
    of its categories is sent, also those that this service has no class for."""

    changes = (SentEvent,)
    versions_in_checkpoints = True

    @abstractmethod
    def outlet(self, service: str) -> Outlet:
        """Makes the outlet, not yet connected, for one opening of a bus. Raises:
        ConfigurationError."""

    def place(self, service: str) -> "SentPlace":
        return SentPlace(self.outlet(service))

    def writes(self, envelope: Envelope) -> list[Write]:
        """Returns the one write of an event. Raises: ProjectionError if it cannot be sent."""
        event = _sent(envelope)
        self.check(event.stream, event)
        return [Write(key=event.stream, update=event, stream=event.stream, version=event.version)]


class SentPlace(Place, Examined):
    """Sends first, then notes the versions, by compare-and-set. `keep_versions_in` is called before
    all else."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self._own: Collections
        self._known: dict[str, OrderedDict[str, int]] = {}
        """Versions that were acknowledged and noted; they save a read for each batch."""

    def keep_versions_in(self, own: Collections) -> None:
        """Takes the service's own place for documents, whose checkpoints hold the versions."""
        self._own = own

    async def open(self, *, makes: bool = True) -> None:
        await self.outlet.open(makes=makes)

    async def close(self) -> None:
        await self.outlet.close()

    async def prepare(self, target: Target) -> Sequence[str]:
        return await self.outlet.prepare()

    async def examined(self) -> list[Finding]:
        return await self.outlet.examined() if isinstance(self.outlet, Examined) else []

    async def drop(self, target: Target) -> None:
        """Removes the versions. What was sent stays: others read it."""
        self._known.pop(target.collection, None)
        await self._own.drop(_among_checkpoints(target))

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        return await self._own.versions(_among_checkpoints(target), streams)

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        return await self._own.reached(_among_checkpoints(target), after, limit)

    def writer(self, target: Target, queue: str) -> "SentWriter":
        return SentWriter(self, target, self._own.writer(_among_checkpoints(target), queue))

    async def write(self, target: Target, changes: Changes, before: Mapping[str, int]) -> bool:
        versions = self._own.writer(_among_checkpoints(target), f"sent/{clock.new_id()}")
        try:
            return await self.send(target, changes, before, versions)
        finally:
            await versions.close()

    async def send(
        self, target: Target, changes: Changes, before: Mapping[str, int], versions: Writer
    ) -> bool:
        """Does what `write` does, by a writer of the checkpoints."""
        own = {stream: before[stream] for stream in changes.versions}
        if not own:
            return True
        if not await self._are_at(target, own):
            return False
        await self.outlet.send([write.update for write in changes.writes])
        return await self._advance(target, changes.versions, own, versions)

    async def show(self, name: str, target: Target | None) -> str | None:
        """Does nothing: readers know the place by the name that is declared."""
        return None

    async def _are_at(self, target: Target, before: Mapping[str, int]) -> bool:
        """Returns whether streams are at these versions: else an event could be sent before the
        one before it."""
        known = self._known.setdefault(target.collection, OrderedDict())
        unsure = [stream for stream, version in before.items() if known.get(stream) != version]
        found = await self.versions(target, unsure) if unsure else {}
        return all(found.get(stream, 0) == before[stream] for stream in unsure)

    async def _advance(
        self,
        target: Target,
        versions: Mapping[str, int],
        before: Mapping[str, int],
        writer: Writer,
    ) -> bool:
        is_first = True

        async def advanced(unit: ReadUnit) -> Changes:
            nonlocal is_first
            is_first = all(unit.versions.get(s, 0) == version for s, version in before.items())
            return Changes((), versions if is_first else {})

        await writer.transact(list(versions), advanced, believed=before)
        if is_first:
            self._remember(target, versions)
        return is_first

    def _remember(self, target: Target, versions: Mapping[str, int]) -> None:
        known = self._known.setdefault(target.collection, OrderedDict())
        known.update(versions)
        for stream in versions:
            known.move_to_end(stream)
        while len(known) > KNOWN:
            known.popitem(last=False)


class SentWriter(SinkWriter):
    """Writes the batches of one queue: its predecessor's transaction over checkpoints is ended."""

    def __init__(self, place: SentPlace, target: Target, versions: Writer) -> None:
        super().__init__(place, target)
        self._outlet = place
        self._checkpoints = versions

    async def take_over(self) -> None:
        await self._checkpoints.take_over()

    async def write(self, changes: Changes, before: Mapping[str, int]) -> bool:
        return await self._outlet.send(self._target, changes, before, self._checkpoints)

    async def close(self) -> None:
        await self._checkpoints.close()


def _sent(envelope: Envelope) -> SentEvent:
    if not isinstance(envelope.message, Whole):
        raise ConfigurationError(f"{envelope.message!r:.100} was read as its class")
    recorded = envelope.message.recorded
    return SentEvent(
        id=envelope.id,
        name=recorded.name,
        schema=recorded.schema,
        data=recorded.data,
        stream=envelope.stream,
        version=envelope.version,
        time=envelope.time,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id or "",
        headers=envelope.headers,
    )


def _among_checkpoints(target: Target) -> Target:
    return target._replace(versions_in_documents=False, indexes=(), place="")
