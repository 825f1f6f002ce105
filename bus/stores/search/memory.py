"""What one process has stored last in an index, so that it need not be read for the next change.

It may be out of date at any time; compare-and-set finds that out.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import count

from bus.stores.search.writing.records import Held

MOST_BYTES = 8_000_000
"""Of documents as JSON, for each collection; as objects they take some times as much."""


class Memory:
    """The documents that were stored last, up to a size."""

    def __init__(self) -> None:
        self._held = OrderedDict[str, tuple[Held, int]]()
        self._size = 0
        self._moments = count(1)

    def moment(self) -> int:
        """Returns a number beyond all before."""
        return next(self._moments)

    def recall(self, ids: Iterable[str]) -> dict[str, Held]:
        """Returns those of these that it has."""
        return {id: self._held[id][0] for id in ids if id in self._held}

    def keep(self, id: str, held: Held, size: int) -> None:
        """Keeps a document of so many bytes, and lets go of the oldest."""
        self.forget(id)
        self._held[id] = held, size
        self._size += size
        while self._size > MOST_BYTES:
            self.forget(next(iter(self._held)))

    def forget(self, id: str) -> None:
        """Lets go of a document."""
        _, size = self._held.pop(id, (None, 0))
        self._size -= size
