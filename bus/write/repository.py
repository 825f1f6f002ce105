"""Repository: hands out the aggregates of one class, and remembers them for the unit of work."""

from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, Generic, TypeVar, overload

from bus.codec import Unread, read_recorded, unread_at
from bus.common.tasks import together
from bus.data.ids import key_of
from bus.data.limits import check_aggregate_id
from bus.errors import AggregateNotFound, ConfigurationError, InvalidMessage, NewerMessage
from bus.messages import Event
from bus.stores.event_log import EventLog, Recorded, Snapshot
from bus.write import snapshots
from bus.write.aggregate import Aggregate, state_shape, stream_of
from bus.write.declared import not_begun, records_itself

AnyAggregate = TypeVar("AnyAggregate", bound=Aggregate)

after_conflict: ContextVar[bool] = ContextVar("after_conflict", default=False)
"""Whether a handler runs again because somebody else wrote first. Then no state is believed without
the events after it: a release that writes none may have been that somebody."""

NOT_GIVEN: Any = object()


class Repository(Generic[AnyAggregate]):
    """The aggregates of one class, as one unit of work sees them.

        @accounts.command
        async def rename(command: RenameAccount, all: Repository[Account]) -> None:
            account = await all.get(command.account_id)
            account.rename(command.owner)

    What it returned or was given is stored after the handler returns; there is no `save`.
    """

    __slots__ = ("_behind", "_kind", "_log", "_seen")

    def __init__(self, kind: type[AnyAggregate], log: EventLog) -> None:
        self._kind = kind
        self._log = log
        self._seen: dict[str, AnyAggregate] = {}
        self._behind: tuple[str, ...] = ()

    def add(self, aggregate: AnyAggregate) -> None:
        """Adds a new aggregate.

        If its stream already exists, the command ends in ConcurrencyError; use `find` first if
        that is to be expected. Raises: ConfigurationError if this handler has added or read it.
        """
        try:
            id = aggregate.id
        except AttributeError:
            raise not_begun(type(aggregate)) from None
        if self._seen.setdefault(id, aggregate) is not aggregate:
            raise ConfigurationError(
                f"Repository[{self._kind.__name__}].add: this handler has added, or read, "
                f"{self._kind.__name__} {id!r} already; work on that object"
            )

    async def get(self, id: str) -> AnyAggregate:
        """Returns the aggregate, rebuilt from its events. Raises: AggregateNotFound."""
        aggregate = await self.find(id)
        if aggregate is None:
            raise AggregateNotFound(f"there is no {self._kind.__name__} {id!r}")
        return aggregate

    @overload
    async def find(self, id: str) -> AnyAggregate | None: ...

    @overload
    async def find(self, **fields: Any) -> list[AnyAggregate]: ...

    async def find(
        self, id: str = NOT_GIVEN, **fields: Any
    ) -> AnyAggregate | list[AnyAggregate] | None:
        """Returns the aggregate with this id, or None if its stream has no events.

        Or those whose state has these values, sorted by id, 1,000 at most:

            for job in await jobs.find(status="open", city="Ulm"):
                job.close()

        That takes `stored="state"`, and one of the fields among its `indexes=`. What this handler
        has in hand is judged as it is now. What is found and changed is stored only if nobody else
        has changed it; nothing keeps others from adding more meanwhile.

        Raises: ConfigurationError for fields that cannot be found, and for more than 1,000;
        NotBuilt while some aggregates have no stored state.
        """
        if fields:
            return await self._find_by(fields, id)
        check_aggregate_id(id, self._kind.__name__)
        if id not in self._seen:
            by_state = self._kind.storing.by_state
            aggregate = await (self._from_state(id) if by_state else self._load(id))
            if aggregate.version == 0:
                return None
            self._seen.setdefault(id, aggregate)
        return self._seen[id]

    def changed(self) -> Iterator[AnyAggregate]:
        """Yields the aggregates that have recorded events. Raises: ConfigurationError for one that
        has overwritten what it is stored by."""
        for id, aggregate in self._seen.items():
            if aggregate.recorded_data:
                aggregate.check_own(id)
                yield aggregate

    def is_behind(self, aggregate: Aggregate) -> bool:
        """Returns whether it was loaded without the snapshot that it should have had: one that was
        passed over, dropped or never made."""
        return aggregate.id in self._behind and self._seen.get(aggregate.id) is aggregate

    async def _load(self, id: str) -> AnyAggregate:
        kept_every = self._kind.snapshot_every
        aggregate = (await self._from_snapshot(id) if kept_every else None) or self._kind(id)
        kept, registry = aggregate.version, self._kind.events()
        async for page in self._log.events(stream_of(self._kind, id), after=kept):
            apply(aggregate, page, registry)
        if aggregate.recorded_data:
            raise records_itself(self._kind)
        if 0 < kept_every <= aggregate.version - kept:
            self._behind += (id,)
        return aggregate

    async def _from_snapshot(self, id: str) -> AnyAggregate | None:
        snapshot = await self._log.snapshot(stream_of(self._kind, id))
        return None if snapshot is None else snapshots.read(self._kind, snapshot, id)

    # --- by state ------------------------------------------------------------------------------

    async def _from_state(self, id: str) -> AnyAggregate:
        is_complete = await snapshots.was_complete(self._log, self._kind)
        state = await self._log.state(stream_of(self._kind, id))
        return await self._of_state(id, state, is_complete=is_complete)

    async def _of_state(
        self, id: str, state: Snapshot | None, *, is_complete: bool
    ) -> AnyAggregate:
        """Returns the aggregate that a state holds; with the events after it, unless it may be
        believed alone."""
        aggregate = None if state is None else snapshots.read(self._kind, state, id)
        if aggregate is not None and is_complete and not after_conflict.get():
            return aggregate
        known = 0 if state is None else state.version
        if aggregate is None or not await catch_up(aggregate, self._log, check=True):
            aggregate = self._kind(id)
            await catch_up(aggregate, self._log)
        if is_complete and aggregate.version > known:
            again = await self._log.state(aggregate.stream)
            if again is None or again.version < aggregate.version:
                behind = f"{aggregate.stream} has events that were stored without its state"
                await snapshots.note_incomplete(self._log, self._kind, behind)
        return aggregate

    async def _find_by(self, fields: Mapping[str, Any], id: object) -> list[AnyAggregate]:
        kind = self._kind
        if id is not NOT_GIVEN:
            raise ConfigurationError(
                f"Repository[{kind.__name__}].find(...) takes an id, or fields, and not both"
            )
        asked = snapshots.asked(kind, fields)
        await snapshots.check_complete(self._log, kind)
        limit, schema = snapshots.MOST_FOUND + 1, str(kind.storing.schema)
        found = await self._log.states(kind.category, asked, limit, shape=schema)
        snapshots.check_found(kind, found)
        new = [state for state in found if key_of(state.stream) not in self._seen]
        taking = [self._take(state, asked) for state in new]
        if after_conflict.get():  # each reads its stream
            await together(*taking)
        else:
            for take in taking:
                await take
        seen = self._seen.items()
        return [it for _, it in sorted(seen, key=itemgetter(0)) if _has(it, asked)]

    async def _take(self, state: Snapshot, asked: Mapping[str, Any]) -> None:
        """Takes an aggregate that was found in hand, if it still has the values."""
        id = key_of(state.stream)
        aggregate = await self._of_state(id, state, is_complete=True)
        if _has(aggregate, asked):
            self._seen.setdefault(id, aggregate)


def _has(aggregate: Aggregate, asked: Mapping[str, Any]) -> bool:
    shape = state_shape(type(aggregate))
    return all(shape.holds(aggregate, name, form) for name, form in asked.items())


async def catch_up(aggregate: Aggregate, log: EventLog, *, check: bool = False) -> bool:
    """Applies the events after an aggregate's version, in pages. With `check`, returns whether the
    log holds the event of that version: if it does not, nothing is applied.

    Raises: InvalidMessage, NewerMessage, ConfigurationError, StoreUnavailable.
    """
    registry, known = type(aggregate).events(), aggregate.version
    is_held = not check
    async for page in log.events(aggregate.stream, after=known if is_held else known - 1):
        if not is_held:
            if not page or page[0][0] != known:
                return False
            page, is_held = page[1:], True
        apply(aggregate, page, registry)
    if aggregate.recorded_data:
        raise records_itself(type(aggregate))
    return is_held


def apply(
    aggregate: Aggregate, page: Sequence[tuple[int, Recorded]], registry: Mapping[str, type[Event]]
) -> None:
    """Applies stored events to an aggregate, each with its version.

    Raises: InvalidMessage, NewerMessage.
    """
    try:
        for version, recorded in page:
            event = read_recorded(recorded, registry)
            if type(event) is not Unread:
                aggregate.apply(event)
            aggregate.version = version
    except (InvalidMessage, NewerMessage) as error:
        raise unread_at(aggregate.stream, aggregate.version + 1, error) from None
