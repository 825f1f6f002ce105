"""What the bus asks of a store for dead letters: documents found by a few of their fields."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bus.data.payload import Document

FAILED = ("error", "reason", "frames", "fingerprint", "attempts")
"""The fields of a dead letter that say how it failed the last time."""
GROUPED = ("fingerprint", "queue", "handler", "message", "error", "reason")
"""The fields of a dead letter that a group of them shows."""


class KeepsLetters(Protocol):
    """The dead letters of a service, each with a unique `_id`."""

    async def add_dead_letter(self, letter: Document, times: int = 1) -> None:
        """Stores a dead letter; if its `_id` exists, replaces only how it failed (the fields
        `FAILED`). Adds `times` to `seen`; the store sets `seen`, `first_seen` and `last_seen`."""
        ...

    async def dead_letters(
        self,
        limit: int = 100,
        *,
        skip: int = 0,
        where: Mapping[str, str] = {},
        fields: Sequence[str] = (),
    ) -> list[Document]:
        """Returns dead letters, the one seen last first. `where` holds the fields that must be
        equal; headers as `headers.stream`. With `fields` only these and `_id` are read: a body may
        be large."""
        ...

    async def dead_letter_ids(self, where: Mapping[str, str] = {}) -> list[str]:
        """Returns the `_id` of each dead letter, the one first seen first."""
        ...

    async def dead_letter_groups(self) -> list[Document]:
        """Returns for each fingerprint its `count`, `first_seen` and `last_seen`, and the fields
        GROUPED of its latest dead letter; the group seen last comes first."""
        ...

    async def change_dead_letter(self, id: str, changes: Document) -> bool:
        """Replaces fields of one dead letter; returns False if there is none with this id."""
        ...

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        """Removes dead letters for good; returns how many there were."""
        ...
