"""Snapshots that are passed over: an aggregate is then read from its events, which takes longer."""

from weakref import WeakSet

from bus.common.fingerprint import reason_of
from bus.observe.log import Logger
from bus.stores.event_log import Snapshot
from bus.write.aggregate import Aggregate

log = Logger("bus.write")

_told: WeakSet[type] = WeakSet()
_unmade: WeakSet[type] = WeakSet()


def made_of(aggregate: Aggregate) -> Snapshot | None:
    """The snapshot, or None where there can be none, with one warning."""
    try:
        return aggregate.to_snapshot()
    except Exception as error:  # whatever the types of its state raise: its events are stored
        _unmade.add(type(aggregate))
        tell_once(type(aggregate), aggregate.stream, error)
        return None


def could_be_made(kind: type[Aggregate]) -> bool:
    """Whether none of the class failed before: then one is worth a try out of turn."""
    return kind not in _unmade


def tell_once(kind: type, stream: str, error: BaseException) -> None:
    """Warns that a class's state cannot be kept or read, once for each class."""
    if kind not in _told:
        _told.add(kind)
        log.warning(
            "no snapshot",
            aggregate=kind.__qualname__,
            stream=stream,
            reason=reason_of(error),
            then="its streams are read from their beginning; this is told once",
        )
