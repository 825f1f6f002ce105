"""Control in memory, durable as long as the process."""

from collections.abc import Collection
from copy import deepcopy
from datetime import datetime, timedelta
from threading import Lock

from bus.common import clock
from bus.stores.collections import Target
from bus.stores.control import Control, Note, Parked
from bus.stores.memory.deadletters import MemoryLetters


class MemoryControl(MemoryLetters, Control):
    """A service's own records; several threads may share them."""

    def __init__(self) -> None:
        super().__init__()
        self._notes: dict[str, Note] = {}
        self._parked: dict[tuple[str, str], Parked] = {}
        self._swept: dict[str, datetime] = {}
        self._leases: dict[str, tuple[str, datetime, datetime]] = {}
        self._changing = Lock()
        """Held by what looks first and then writes."""

    async def open(self, *, makes: bool = True) -> None:
        """Does nothing: there is nothing to connect to."""

    async def close(self) -> None:
        """Does nothing: nothing is in flight."""

    def now(self) -> datetime:
        return clock.now()

    async def drop(self, target: Target) -> None:
        self._swept.pop(target.collection, None)
        for owner, stream in list(self._parked):
            if owner == target.collection:
                del self._parked[owner, stream]
        for key in list(self._notes):
            if key.startswith(f"{target.collection}/"):
                del self._notes[key]

    async def park(self, target: Target, parked: Parked) -> None:
        self._parked[target.collection, parked.stream] = parked

    async def unpark(self, target: Target, stream: str) -> None:
        self._parked.pop((target.collection, stream), None)

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        return [
            parked
            for (owner, stream), parked in list(self._parked.items())
            if owner == target.collection and (streams is None or stream in streams)
        ]

    async def swept(self, target: Target) -> datetime | None:
        return self._swept.get(target.collection)

    async def mark_swept(self, target: Target, until: datetime) -> None:
        self._swept[target.collection] = until

    async def note(self, key: str) -> Note:
        return deepcopy(self._notes.get(key, Note(key, {})))

    async def write_note(self, note: Note) -> bool:
        with self._changing:
            if self._notes.get(note.key, note).revision != note.revision:
                return False
            self._notes[note.key] = deepcopy(note._replace(revision=note.revision + 1))
        return True

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        return {}

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        now = self.now()
        with self._changing:
            holder, since, until = self._leases.get(name, (owner, now, now))
            if holder != owner and since <= now < until:  # `now < since`: the clock was set back
                return False
            self._leases[name] = (owner, now, now + timedelta(seconds=seconds))
        return True
