"""Snapshots that are passed over: an aggregate is then read from its events, which takes longer."""

from weakref import WeakSet

from bus.fingerprint import reason_of
from bus.log import Logger

log = Logger("bus.write")

_told: WeakSet[type] = WeakSet()


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
