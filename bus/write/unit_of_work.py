"""Unit of work: everything that one command (or one event handler's run) stores, at once.

One stream is one insert, several are one transaction; then the events go to the broker.
"""

import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from bus.codec import address, frames_of, record
from bus.data.ids import category_of, derived_id, is_category, key_of
from bus.data.limits import check_stream_id, not_text, plain_text
from bus.errors import ConfigurationError, InvalidMessage
from bus.messages import Command, Envelope, Event, Receipt, check_kind
from bus.observe.listeners import Signals
from bus.observe.log import Logger
from bus.observe.signals import EventsStored
from bus.observe.tracer import Batch, context_of
from bus.stores.event_log import Commit, EventLog, Outgoing, Recorded, Snapshot
from bus.transports.base import Frame
from bus.write import snapshots
from bus.write.aggregate import Aggregate
from bus.write.receipts import receipt_of, receipt_of_repeat
from bus.write.repository import Repository

AnyAggregate = TypeVar("AnyAggregate", bound=Aggregate)


log = Logger("bus.write")


class Publishing(Protocol):
    """Takes stored commits, to publish them. `taken` says of categories whose they are, where no
    event may name a stream of theirs."""

    signals: Signals
    taken: Mapping[str, str]

    def offer(self, commits: list[Commit], frames: list[list[Frame]]) -> None: ...


class HasHeads(Protocol):
    """Knows up to which versions streams go: an event log, or a transaction on one."""

    async def heads(self, streams: Sequence[str]) -> dict[str, int]: ...


class Outbox:
    """Commands and events to be sent with the unit of work: stored with it, or not at all.

    Their ids derive from the message being handled and the handler, so that a redelivery sends
    nothing twice.
    """

    def __init__(self, seed: str, taken: Mapping[str, str] | None = None) -> None:
        self.seed = seed
        self._taken = taken or {}
        self._heads: Mapping[str, int] = {}
        self.commands: list[Outgoing] = []
        self.events: list[Recorded] = []
        self.streams: dict[str, list[Recorded]] = {}
        """Events by the stream that was named for them."""

    def send(self, command: Command) -> str:
        """Sends a command to this service's queue; returns the id under which it will run.

        Raises: InvalidMessage.
        """
        check_kind(type(command), Command, "Outbox.send")
        number = len(self.commands) + 1
        self.commands.append(address(command, derived_id(f"{self.seed}>{number}")))
        return self.commands[-1].id

    def publish(self, event: Event, *, stream: str | None = None) -> None:
        """Publishes an event that belongs to no aggregate.

        Without `stream` it stands for itself, in a stream of the service's own. With it, as in
        `stream="price_list-eur"` (a category, a hyphen, an id), it is the next event of that
        stream, whose versions count 1, 2, 3 ... like an aggregate's; if somebody else was first,
        the handler runs again.

        Raises: InvalidMessage, ConfigurationError (the category is an aggregate's, another
        service's, or the service's own).
        """
        check_kind(type(event), Event, "Outbox.publish")
        recorded = record(event)
        if stream is None:
            self.events.append(recorded)
        else:
            self.streams.setdefault(self._named(stream), []).append(recorded)

    async def locate(self, log: HasHeads) -> None:
        """Looks up the heads of the streams that events name. Raises: StoreUnavailable."""
        if self.streams:
            self._heads = await log.heads(list(self.streams))

    def parts(self) -> list["Part"]:
        """Returns what follows in each stream that events name, as far as `locate` knows them."""
        return [
            (category_of(stream), stream, self._heads.get(stream, 0) + len(events), events, None)
            for stream, events in self.streams.items()
        ]

    def _named(self, stream: str) -> str:
        """Returns a stream's name. Raises: InvalidMessage, ConfigurationError."""
        what = "Outbox.publish(stream=...)"
        if not isinstance(stream, str):
            raise InvalidMessage(not_text(f"{what}: the name of a stream", stream))
        category = category_of(stream)
        if not is_category(category) or "-" not in stream:
            raise InvalidMessage(
                f"{what}: {stream!r:.100} is not the name of a stream; give a category (lower-case "
                f"letters, digits and underscores, 50 at most), a hyphen and an id, as in "
                f"stream='price_list-eur'"
            )
        check_stream_id(key_of(stream), f"{what}: the id in {stream!r:.100}")
        if category in self._taken:
            raise ConfigurationError(
                f"{what}: the category {category!r} of {stream!r:.100} {self._taken[category]}"
            )
        return plain_text(stream)


Part = tuple[str, str, int, list[Recorded], Snapshot | None]
"""What is added to a stream: its category, its id, the version it then has, the events; and the
state that is stored with them."""


class UnitOfWork:
    """Collects what a handler changes. `id` is the id of its first commit."""

    __slots__ = (
        "_changed",
        "_frames",
        "_log",
        "_outbox",
        "_prepared",
        "_publishing",
        "_repositories",
        "_service",
        "envelope",
        "id",
        "session",
    )

    def __init__(
        self,
        id: str,
        service: str,
        envelope: Envelope,
        log: EventLog,
        publishing: Publishing,
        *,
        session: Any = None,
        outbox: Outbox | None = None,
    ) -> None:
        self.id = id
        self.envelope = envelope
        self.session = session
        self._service = service
        self._log = log
        self._publishing = publishing
        self._outbox = outbox
        self._repositories: dict[type[Aggregate], Repository[Any]] = {}
        self._changed: list[Aggregate] = []
        self._prepared: list[Commit] = []
        self._frames: list[list[Frame]] = []

    @property
    def outbox(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox(self.id, self._publishing.taken)
        return self._outbox

    @property
    def names_streams(self) -> bool:
        """Whether `locate` has to come before `prepare`."""
        return self._outbox is not None and bool(self._outbox.streams)

    def repository(self, kind: type[AnyAggregate]) -> Repository[AnyAggregate]:
        if kind not in self._repositories:
            self._repositories[kind] = Repository(kind, self._log)
        return cast(Repository[AnyAggregate], self._repositories[kind])

    def commit(self, result: Any = None, *, keep: bool = False) -> Coroutine[Any, Any, Receipt]:
        """Stores what the handler did and hands it to the publisher.

        With `keep`, it stores a commit even if there is nothing to store but the result.

        Raises: ConcurrencyError, InvalidMessage, IdConflict, OutcomeUnknown, StoreUnavailable.
        """
        if self.names_streams:
            return self._commit_located(result, keep)
        self.prepare(result, keep=keep)
        return self.store(result)  # a coroutine less for each command

    async def _commit_located(self, result: Any, keep: bool) -> Receipt:
        await self.locate()
        self.prepare(result, keep=keep)
        return await self.store(result)

    async def locate(self) -> None:
        """Looks up what `prepare` has to know of streams that events name.

        Raises: StoreUnavailable.
        """
        if self._outbox is not None:
            await self._outbox.locate(self._log)

    async def store(self, result: Any = None) -> Receipt:
        """Stores what was prepared, if anything, and hands it to the publisher.

        Raises: what `commit` raises.
        """
        if not self._prepared:
            return Receipt(self.id, {}, result)
        signals = self._publishing.signals
        wanted = EventsStored in signals.wanted or signals.tracer is not None
        append = self._measured_append if wanted else self._log.append
        stored = await append(self._prepared)
        if stored is self._prepared:  # else the log had commits under this id: a repeat
            await self.announce()
            return receipt_of(self._prepared, result)
        return receipt_of_repeat(stored, self.envelope)

    def prepare(self, result: Any = None, *, keep: bool = False) -> list[Commit]:
        """Returns the commits to store. Raises: InvalidMessage if they could not be published."""
        self._changed = [
            aggregate
            for repository in self._repositories.values()
            for aggregate in repository.changed()
        ]
        self._prepared = self._commits(result, keep)
        self._frames = [frames_of(commit) for commit in self._prepared]
        return self._prepared

    def offer(self) -> None:
        """Hands what was prepared, and has since been stored, to the publisher."""
        self._publishing.offer(self._prepared, self._frames)

    async def announce(self) -> None:
        """Hands what was prepared, and has since been stored, to the publisher; saves snapshots."""
        self._publishing.offer(self._prepared, self._frames)
        for aggregate in self._changed:
            if aggregate.snapshot_every:
                await self._snapshot(aggregate)

    async def _measured_append(self, commits: list[Commit]) -> Sequence[Commit]:
        began = time.monotonic()
        stored = await self._log.append(commits)
        if stored is commits:
            self.tell_stored(time.monotonic() - began)
        return stored

    def tell_found(self, commits: Sequence[Commit]) -> None:
        """Tells who listens that these are stored: an append in doubt left them in the log."""
        if EventsStored in self._publishing.signals.wanted:
            self._prepared = list(commits)
            self._frames = [frames_of(commit) for commit in commits]
            waited = self._log.now() - commits[0].time
            self.tell_stored(max(waited.total_seconds(), 0.0))

    def tell_stored(self, seconds: float) -> None:
        """Tells who listens, and the tracer, that what was prepared is stored, if there is any."""
        if self._prepared:
            signals, count = self._publishing.signals, len(self._prepared)
            if signals.tracer and (context := context_of(self.envelope.headers)):
                began = time.time() - seconds
                signals.batch(
                    Batch("store", self._service, began, contexts=[context], messages=count)
                )
            signals.emit(
                EventsStored,
                message=self.envelope.name,
                message_id=self.envelope.id,
                commits=count,
                events=sum(len(commit.events) for commit in self._prepared),
                size=sum(len(frame.body) for frames in self._frames for frame in frames),
                seconds=seconds,
            )

    def _commits(self, result: Any, keep: bool) -> list[Commit]:
        parts: list[Part] = [
            (
                a.category,
                a.stream,
                a.version,
                a.recorded_data,
                a.to_snapshot() if a.storing.by_state else None,
            )
            for a in self._changed
        ]
        own: list[Recorded] = []
        outgoing: tuple[Outgoing, ...] = ()
        if self._outbox is not None:
            parts += self._outbox.parts()
            own, outgoing = self._outbox.events, tuple(self._outbox.commands)
        if own or ((outgoing or keep) and not parts):  # commands go with any first commit
            parts.append((self._service, f"{self._service}-{self.id}", len(own), own, None))
        if not parts:
            return []
        time = self._log.now()
        return [
            Commit(
                id=self.id if index == 0 else f"{self.id}/{index + 1}",
                stream=stream,
                category=category,
                first=last - len(events) + 1,
                events=tuple(events),
                time=time,
                correlation_id=self.envelope.correlation_id,
                causation_id=self.envelope.id,
                headers=self.envelope.headers,
                outgoing=outgoing if index == 0 else (),
                result=result if index == 0 else None,
                message=self.envelope.name,
                digest=self.envelope.digest if index == 0 else "",
                state=state,
            )
            for index, (category, stream, last, events, state) in enumerate(parts)
        ]

    async def _snapshot(self, aggregate: Aggregate) -> None:
        every = aggregate.snapshot_every
        before = aggregate.version - len(aggregate.recorded)
        if before // every == aggregate.version // every and not self._is_behind(aggregate):
            return
        snapshot = snapshots.made_of(aggregate)
        if snapshot is None:
            return
        try:
            await self._log.save_snapshot(snapshot)
        except InvalidMessage as error:
            snapshots.warn_once(type(aggregate), aggregate.stream, error)
        except Exception as error:  # the events are stored: a failing cache must not hide that
            log.warning("no_snapshot", stream=aggregate.stream, reason=str(error))

    def _is_behind(self, aggregate: Aggregate) -> bool:
        """Returns whether it was loaded from more events than a snapshot would have left."""
        return snapshots.could_be_made(type(aggregate)) and any(
            repository.is_behind(aggregate) for repository in self._repositories.values()
        )
