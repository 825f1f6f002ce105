"""Repository: hands out the aggregates of one class, and remembers them for the unit of work."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from bus.codec import Unread, read_recorded, unread_at
from bus.data.limits import check_aggregate_id
from bus.errors import AggregateNotFound, ConfigurationError, InvalidMessage, NewerMessage
from bus.stores.event_log import EventLog
from bus.write import snapshots
from bus.write.aggregate import Aggregate, stream_of
from bus.write.declared import not_begun, records_itself

AnyAggregate = TypeVar("AnyAggregate", bound=Aggregate)


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

    async def find(self, id: str) -> AnyAggregate | None:
        """Returns the aggregate, or None if its stream has no events."""
        check_aggregate_id(id, self._kind.__name__)
        if id not in self._seen:
            aggregate = await self._load(id)
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
        aggregate = await self._from_snapshot(id) or self._kind(id)
        kept = aggregate.version
        registry = self._kind.events()
        stream = stream_of(self._kind, id)
        try:
            async for page in self._log.events(stream, after=aggregate.version):
                for version, recorded in page:
                    event = read_recorded(recorded, registry)
                    if type(event) is not Unread:
                        aggregate.apply(event)
                    aggregate.version = version
        except (InvalidMessage, NewerMessage) as error:
            raise unread_at(stream, aggregate.version + 1, error) from None
        if aggregate.recorded_data:
            raise records_itself(self._kind)
        if 0 < self._kind.snapshot_every <= aggregate.version - kept:
            self._behind += (id,)
        return aggregate

    async def _from_snapshot(self, id: str) -> AnyAggregate | None:
        if not self._kind.snapshot_every:
            return None
        snapshot = await self._log.snapshot(stream_of(self._kind, id))
        if snapshot is None:
            return None
        try:
            return self._kind.from_snapshot(snapshot, id)
        except Exception as error:  # the events give the same state
            snapshots.warn_once(self._kind, snapshot.stream, error)
            return None
