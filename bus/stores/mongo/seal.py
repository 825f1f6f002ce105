"""The seal: a row among the checkpoints that shows whether they are the ones this process knows.

If it is missing, or an older one, the checkpoints were dropped or restored: continuing from them
would apply again what the documents already hold.
"""

from typing import Any

from bus.data.payload import Document
from bus.errors import Discontinued

SEAL = "/seal"
"""The row's `_id`. The ids of versions begin with a collection's name."""


class Seal:
    """What this process knows of the seal."""

    def __init__(self) -> None:
        self.turn = 0
        """The greatest turn that was seen; 0 if no seal was read yet."""

    def seen(self, row: Document | None) -> Document:
        """Returns the record in a row, and remembers its turn."""
        found = {name: value for name, value in (row or {}).items() if name != "_id"}
        self.turn = max(self.turn, found.get("turn", 0))
        return found

    def check(self, row: Document | None) -> None:
        """Raises: Discontinued, if it is neither the known seal nor a later one."""
        if self.turn and (row is None or row.get("turn", 0) < self.turn):
            raise Discontinued(
                "MongoDB: the collection 'checkpoints' is not what it was: dropped, or restored "
                "from a backup; nothing is applied until `bus events recover` has put it right"
            )

    def own(self, value: Document) -> Any:
        """Returns the update that stores a record, unless a later one is there."""
        later = {"$gt": [{"$ifNull": ["$turn", 0]}, {"$literal": value["turn"]}]}
        kept = {"$cond": [later, "$$ROOT", {"$literal": {"_id": SEAL, **value}}]}
        return [{"$replaceWith": kept}]
