"""What the bus asks of a store for dead letters: documents found by a few of their fields."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bus.data.payload import Document

FAILED = ("error", "reason", "frames", "fingerprint", "attempts")
"""The fields of a dead letter that tell how it failed the last time."""
GROUPED = ("fingerprint", "queue", "handler", "message", "error", "reason")
"""The fields of a dead letter that a group of them shows."""


class KeepsLetters(Protocol):
    """The dead letters of a service, each with a unique `_id`."""

    async def add_dead_letter(self, letter: Document, times: int = 1) -> None:
        """Keeps a dead letter; the same `_id` again replaces only how it failed, counting `seen`,
        which grows by `times`.

        How it failed are the fields `FAILED`. The store adds `seen`, `first_seen`, `last_seen`.
        """
        ...

    async def dead_letters(
        self,
        limit: int = 100,
        *,
        skip: int = 0,
        where: Mapping[str, str] = {},
        fields: Sequence[str] = (),
    ) -> list[Document]:
        """Dead letters, the one seen last first; `where` holds the fields that must be equal, those
        of the headers as `headers.stream`. With `fields` they are read of each, and its `_id`, and
        nothing else: a body may be large."""
        ...

    async def dead_letter_ids(self, where: Mapping[str, str] = {}) -> list[str]:
        """The `_id` of each dead letter, the one seen first at the front."""
        ...

    async def dead_letter_groups(self) -> list[Document]:
        """For each fingerprint its `count`, `first_seen` and `last_seen`, and GROUPED of its latest
        dead letter; the group seen last is the first."""
        ...

    async def change_dead_letter(self, id: str, changes: Document) -> bool:
        """Replaces fields of one dead letter; False where it is not there."""
        ...

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        """Removes dead letters for good; returns how many there were."""
        ...
