"""The seal: a row among the checkpoints that tells whether they are those that this process knows.

Without it, or with an older one, checkpoints were dropped or restored: to go on from what they say
then would apply again what the documents hold already.
"""

from typing import Any

from bus.data.payload import Document
from bus.errors import Discontinued

SEAL = "/seal"
"""Its `_id`. Those of versions begin with a collection's name."""


class Seal:
    """What this process knows of it."""

    def __init__(self) -> None:
        self.turn = 0
        """The greatest that was seen; 0 where nobody asked for a seal yet."""

    def seen(self, row: Document | None) -> Document:
        """The record that a row holds; its turn is known from now on."""
        found = {name: value for name, value in (row or {}).items() if name != "_id"}
        self.turn = max(self.turn, found.get("turn", 0))
        return found

    def check(self, row: Document | None) -> None:
        """Raises: Discontinued, where it is not the one that is known, or a later one."""
        if self.turn and (row is None or row.get("turn", 0) < self.turn):
            raise Discontinued(
                "MongoDB: the collection 'checkpoints' is not what it was: dropped, or restored "
                "from a backup; nothing is applied until `bus events recover` has put it right"
            )

    def own(self, value: Document) -> Any:
        """The update that puts a record in its place, unless a later one stands there."""
        later = {"$gt": [{"$ifNull": ["$turn", 0]}, {"$literal": value["turn"]}]}
        kept = {"$cond": [later, "$$ROOT", {"$literal": {"_id": SEAL, **value}}]}
        return [{"$replaceWith": kept}]
