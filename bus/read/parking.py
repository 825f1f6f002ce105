"""Parking: describes the streams that a projection has set aside, for health and the log."""

from typing import Literal, NamedTuple

from bus.data.payload import Document
from bus.observe.listeners import Signals
from bus.observe.signals import StreamParked
from bus.read.projection import queue_of
from bus.stores.collections import Target
from bus.stores.control import Control, Parked

SHOWN = 3
LETTERS = 100


class Stuck(NamedTuple):
    """A stream that a projection cannot apply, beginning with the event `version`.

    `id` is its name in `bus deadletters`. `letters` are the dead letters of that same event in this
    projection: one problem together with them, not another one.
    """

    id: str
    version: int
    message: str
    error: str
    letters: tuple[str, ...] = ()

    def __str__(self) -> str:
        event = self.message or "an event"
        letters = f" (dead letter {', '.join(self.letters)})" if self.letters else ""
        return f"{self.id} at version {self.version}, {event}: {self.error}{letters}"


async def stuck(control: Control, target: Target, most: int = SHOWN) -> list[Stuck]:
    """Returns the streams parked there that are not just waiting, oldest first, at most `most`.

    Raises: StoreUnavailable.
    """
    rows = [row for row in await control.parked(target) if not row.is_waiting]
    rows.sort(key=lambda row: (row.first_seen or row.next_try, row.stream))
    return [await _with_letters(control, target, parked) for parked in rows[:most]]


async def _with_letters(control: Control, target: Target, parked: Parked) -> Stuck:
    letters = await control.dead_letters(
        LETTERS, where={"headers.stream": parked.stream}, fields=("queue", "headers")
    )
    alike = [letter for letter in letters if _is_of(letter, target.collection, parked.version)]
    return Stuck(
        id=f"{target.collection}/{parked.stream}",
        version=parked.version,
        message=parked.message,
        error=parked.error,
        letters=tuple(letter["_id"] for letter in alike),
    )


def _is_of(letter: Document, collection: str, version: int) -> bool:
    """Returns whether a letter is of that event. Queues: `service.name`, `service.name.0of4`."""
    parts = letter["queue"].split(".")
    return queue_of(collection) in parts[1:2] and letter["headers"].get("version") == version


def emit_parked(signals: Signals, target: Target, parked: Parked, last: Parked | None) -> None:
    """Emits that a stream was parked, `again` if it failed just as `last` time."""
    waits_for: Literal["", "event", "release"] = "event" if parked.is_waiting else ""
    if parked.awaits_release:
        waits_for = "release"
    signals.emit(
        StreamParked,
        projection=target.projection,
        stream=parked.stream,
        version=parked.version,
        message=parked.message,
        error=parked.error,
        reason=parked.reason[:500],
        group=parked.fingerprint,
        letter=f"{target.collection}/{parked.stream}",
        tries=parked.tries,
        next_try=parked.next_try.isoformat(),
        waits_for=waits_for,
        again=last is not None and _is_same(parked, last),
    )


def _is_same(parked: Parked, last: Parked) -> bool:
    return (parked.version, parked.fingerprint, parked.is_waiting) == (
        last.version,
        last.fingerprint,
        last.is_waiting,
    )
