"""Control: what a service's processes write down for one another, always in its own database.

Parked streams, marks of sweeps, dead letters, and small shared records.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple, Protocol

from bus.data.payload import Document
from bus.errors import EventMissing, StoreUnavailable
from bus.stores.collections import Collections, Target
from bus.stores.deadletters import KeepsLetters

TRIES = 100


class Note(NamedTuple):
    """A small shared record. `revision` counts its changes; 0 where it was never written."""

    key: str
    value: Document
    revision: int = 0


class Parked(NamedTuple):
    """A stream that a projection cannot apply just now.

    `tries` are those that failed; none while it only waits for an event of another service.
    `message` is the name of the event at `version`, which fails; `error`, `reason`, `frames` and
    `fingerprint` are those of its `Failure`.
    """

    stream: str
    version: int
    error: str
    tries: int
    next_try: datetime
    message: str = ""
    reason: str = ""
    frames: tuple[str, ...] = ()
    fingerprint: str = ""
    first_seen: datetime | None = None
    last_seen: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it stands aside for an event that may be on its way, and has not failed (yet)."""
        return self.tries == 0

    @property
    def awaits_release(self) -> bool:
        """Whether it waits for a release of the code that can read it."""
        return self.is_waiting and not self.is_missed

    @property
    def is_missed(self) -> bool:
        """Whether what it stands aside for is an event of another service that is not here."""
        return self.error == EventMissing.__name__


class Control(KeepsLetters, Protocol):
    """Parked streams, dead letters, and small shared records."""

    def now(self) -> datetime:
        """The time by the store's own clock: what processes write down for each other goes by it
        (marks of sweeps, the next try of a parked stream), and never by that of one of them."""
        ...

    async def open(self, *, makes: bool = True) -> None:
        """Connects, makes the shared indexes, and checks that transactions are to be had; without
        `makes`, for somebody who only looks, makes nothing.

        Raises: StoreUnavailable, ConfigurationError (no replica set).
        """
        ...

    async def close(self) -> None:
        """Ends its own tasks; the client remains the caller's."""
        ...

    async def drop(self, target: Target) -> None:
        """Removes all that is kept of a target: parked streams, the mark of its sweeps, and notes
        whose keys begin with its collection's name and a slash. Idempotent."""
        ...

    async def park(self, target: Target, parked: Parked) -> None: ...

    async def unpark(self, target: Target, stream: str) -> None: ...

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        """The streams that are parked there; of these, or all."""
        ...

    async def swept(self, target: Target) -> datetime | None:
        """Up to when the target was last compared with the log."""
        ...

    async def mark_swept(self, target: Target, until: datetime) -> None: ...

    async def note(self, key: str) -> Note:
        """A shared record, as a majority holds it; empty, of revision 0, where there is none."""
        ...

    async def write_note(self, note: Note) -> bool:
        """Writes the record if nobody has since `note.revision`, which then counts one more."""
        ...

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """What stands in the service's database under the name of each collection (or of these), as
        `Collections.identities` tells it of the place for documents; empty where none can be
        dropped."""
        ...

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Takes or keeps a lease; False while another owner holds it.

        It saves work and guards nothing.
        """
        ...


async def drop(collections: Collections, control: Control, target: Target) -> None:
    """Removes a target, and what is kept of it. Idempotent: by its collection, which goes last,
    what a crash leaves over is found. Raises: StoreUnavailable."""
    await control.drop(target)
    await collections.drop(target)


async def change_note(
    control: Control, key: str, change: Callable[[Document], Document]
) -> Document:
    """Changes a record; returns it as it is then. Raises: StoreUnavailable, and what `change` does.

    `change` may run several times: it is given what stands there just then.
    """
    for _ in range(TRIES):
        note = await control.note(key)
        after = change(note.value)
        if after == note.value or await control.write_note(note._replace(value=after)):
            return after
    raise StoreUnavailable(f"{key}: others changed it at each of {TRIES} tries; try again")
