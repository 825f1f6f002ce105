"""Drift: what an audit found, the note of that, and whether two documents are alike."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from bus.data.payload import Document
from bus.stores.documents.updates import HIDDEN


class Difference(NamedTuple):
    """A document that is not what the log makes of it. `found` or `expected` is None if there is
    none, or should be none; both have the bus's own fields, `_version` among them. The `key` of a
    row whose primary key has several columns is a tuple.

    `repaired` says whether it has been put right.
    """

    key: Any
    found: Document | None
    expected: Document | None
    repaired: bool = False

    @property
    def kind(self) -> str:
        """ "missing" (the log makes one), "stray" (it makes none), or "differs"."""
        if _is_none(self.found):
            return "missing"
        return "stray" if _is_none(self.expected) else "differs"

    @property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """What differs: for each field its value here, and the one that it should have."""
        found, expected = self.found or {}, self.expected or {}
        names = [*expected, *(name for name in found if name not in expected)]
        return {
            name: (found.get(name), expected.get(name))
            for name in names
            if found.get(name) != expected.get(name)
        }


class Audited(NamedTuple):
    """What an audit found: those of `compared` documents that differ; and the parked streams,
    whose documents are not compared (or, if other streams feed them too, may differ for that)."""

    collection: str
    compared: int
    differences: tuple[Difference, ...]
    parked: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether nothing differs any more."""
        return all(difference.repaired for difference in self.differences)


def audit_of(collection: str) -> str:
    """Returns the key of the note of a collection's last audit: when it was (`at`, Unix time), and
    how many documents differ that audits have left (`differences`)."""
    return f"{collection}/audit"


def noted(at: float, left: int, *, whole: bool) -> Callable[[Document], Document]:
    """Returns how another audit changes that note. A sample that finds less than is known has only
    looked elsewhere."""

    def change(was: Document) -> Document:
        known = 0 if whole else was.get("differences", 0)
        return {"at": at, "differences": max(known, left)}

    return change


class Selection(NamedTuple):
    """Part of a projection: documents by their keys, and those fed by these streams, by streams
    whose ids match a pattern (as for file names: `job-2024*`), or with events since a time."""

    streams: Sequence[str] = ()
    documents: Sequence[str] = ()
    matching: str = ""
    since: datetime | None = None


def differing(
    here: Sequence[Document], there: Sequence[Document], size: int
) -> tuple[str | None, list[str]]:
    """Compares a page of each, of at most `size` documents. Returns the key up to which both pages
    are complete (None: to the end), and the keys up to there whose documents differ."""
    ends = [page[-1]["_id"] for page in (here, there) if len(page) == size]
    end = min(ends, default=None)
    found = {document["_id"]: document for document in here}
    wanted = {document["_id"]: document for document in there}
    keys = [key for key in {**wanted, **found} if end is None or key <= end]
    return end, [key for key in keys if not alike(found.get(key), wanted.get(key))]


def alike(found: Document | None, expected: Document | None) -> bool:
    """Returns whether two documents are equal; a placeholder for one (hidden) counts as none."""
    return found == expected or (_is_none(found) and _is_none(expected))


def _is_none(document: Document | None) -> bool:
    return document is None or HIDDEN in document
