"""Snapshots that cannot be made or read: aggregates are then read from all of their events."""

from weakref import WeakSet

from bus.common.fingerprint import reason_of
from bus.observe.log import Logger
from bus.stores.event_log import Snapshot
from bus.write.aggregate import Aggregate

log = Logger("bus.write")

_warned: WeakSet[type] = WeakSet()
_unmade: WeakSet[type] = WeakSet()


def made_of(aggregate: Aggregate) -> Snapshot | None:
    """Returns the snapshot, or None if it cannot be made; warns once per class."""
    try:
        return aggregate.to_snapshot()
    except Exception as error:  # types of its state may raise anything; its events are stored
        _unmade.add(type(aggregate))
        warn_once(type(aggregate), aggregate.stream, error)
        return None


def could_be_made(kind: type[Aggregate]) -> bool:
    """Returns whether no snapshot of the class has failed, so that an extra one is worth a try."""
    return kind not in _unmade


def warn_once(kind: type, stream: str, error: BaseException) -> None:
    """Warns that a class's state cannot be stored or read, once per class."""
    if kind not in _warned:
        _warned.add(kind)
        log.warning(
            "no_snapshot",
            aggregate=kind.__qualname__,
            stream=stream,
            reason=reason_of(error),
            then="its streams are read from their beginning; this is told once",
        )
