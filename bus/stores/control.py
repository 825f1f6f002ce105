"""What a service's processes write down for one another, always in its own database.

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
    """A small shared record. `revision` counts its changes; 0 if it was never written."""

    key: str
    value: Document
    revision: int = 0


class Parked(NamedTuple):
    """A stream that a projection cannot apply at present.

    `tries` counts those that failed; 0 while it only waits for an event of another service.
    `message` is the name of the failing event, at `version`; `error`, `reason`, `frames` and
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
        """Whether it waits for an event that may be on its way, and has not failed (yet)."""
        return self.tries == 0

    @property
    def awaits_release(self) -> bool:
        """Whether it waits for a release of the code that can read it."""
        return self.is_waiting and not self.is_missed

    @property
    def is_missed(self) -> bool:
        """Whether it waits for an event of another service that is not here."""
        return self.error == EventMissing.__name__


class Notes(Protocol):
    """Small shared records."""

    async def note(self, key: str) -> Note:
        """Returns a record as a majority holds it; if there is none, an empty one of revision 0."""
        ...

    async def write_note(self, note: Note) -> bool:
        """Writes the record, one revision on, unless somebody has since `note.revision`; returns
        whether it did."""
        ...


class Control(KeepsLetters, Notes, Protocol):
    """Parked streams, dead letters, and small shared records."""

    def now(self) -> datetime:
        """Returns the time by the store's own clock, which processes use for what they write down
        for each other (marks of sweeps, next tries of parked streams): their own clocks differ."""
        ...

    async def open(self, *, makes: bool = True) -> None:
        """Connects, makes the shared indexes, and checks that there are transactions; without
        `makes`, which is for those who only look, makes nothing.

        Raises: StoreUnavailable, ConfigurationError (no replica set).
        """
        ...

    async def close(self) -> None:
        """Ends its own tasks; the caller closes the client."""
        ...

    async def drop(self, target: Target) -> None:
        """Removes all that is kept of a target: parked streams, the mark of its sweeps, and notes
        whose keys begin with its collection's name and a slash. Idempotent."""
        ...

    async def park(self, target: Target, parked: Parked) -> None: ...

    async def unpark(self, target: Target, stream: str) -> None: ...

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        """Returns the parked streams: of these, or all."""
        ...

    async def swept(self, target: Target) -> datetime | None:
        """Returns up to when the target was last compared with the log; None if it never was."""
        ...

    async def mark_swept(self, target: Target, until: datetime) -> None: ...

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Returns the identities of the collections in the service's database (or of these), as
        `Collections.identities` does; empty if none can be dropped."""
        ...

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Takes or keeps a lease; returns False while another owner holds it.

        A lease saves work and guards nothing.
        """
        ...


async def drop(collections: Collections, control: Control, target: Target) -> None:
    """Removes a target, and what is kept about it. Idempotent: the collection goes last, so that
    what a crash leaves behind is still found by it. Raises: StoreUnavailable."""
    await control.drop(target)
    await collections.drop(target)


async def change_note(control: Notes, key: str, change: Callable[[Document], Document]) -> Document:
    """Changes a record; returns it as it is then. Raises: StoreUnavailable, and what `change` does.

    `change` may run several times, each on the record as it is at that time.
    """
    for _ in range(TRIES):
        note = await control.note(key)
        after = change(note.value)
        if after == note.value or await control.write_note(note._replace(value=after)):
            return after
    raise StoreUnavailable(f"{key}: others changed it at each of {TRIES} tries; try again")
