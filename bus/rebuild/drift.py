"""Drift: what an audit found, and when two documents are alike. Pure."""

from collections.abc import (
    Sequence,
)
from datetime import datetime
from typing import Any, NamedTuple

from bus.data.payload import Document
from bus.stores.documents.updates import HIDDEN


class Difference(NamedTuple):
    """A document that is not what the log makes of it; None where there is to be none, or is none.

    `repaired` says whether it is by now. Both have the bus's own fields, `_version` among them.
    """

    key: str
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
        """What differs: for each field its value here, and the one it is to have."""
        found, expected = self.found or {}, self.expected or {}
        names = [*expected, *(name for name in found if name not in expected)]
        return {
            name: (found.get(name), expected.get(name))
            for name in names
            if found.get(name) != expected.get(name)
        }


class Audited(NamedTuple):
    """What an audit found: of `compared` documents those that differ; and the parked streams,
    whose documents are not compared (or, where others feed them too, may differ by what waits)."""

    collection: str
    compared: int
    differences: tuple[Difference, ...]
    parked: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether nothing differs by now."""
        return all(one.repaired for one in self.differences)


class Selection(NamedTuple):
    """Some of a projection: what these streams feed, those whose ids match a pattern (as in file
    names: `job-2024*`), or that have had events since a time; and documents by their keys."""

    streams: Sequence[str] = ()
    documents: Sequence[str] = ()
    matching: str = ""
    since: datetime | None = None


def differing(
    here: Sequence[Document], there: Sequence[Document], size: int
) -> tuple[str | None, list[str]]:
    """Of a page of each, of `size` at most: up to which key both are whole (None: to the end), and
    the keys up to there whose documents are not alike."""
    ends = [page[-1]["_id"] for page in (here, there) if len(page) == size]
    end = min(ends, default=None)
    found = {one["_id"]: one for one in here}
    wanted = {one["_id"]: one for one in there}
    keys = [key for key in {**wanted, **found} if end is None or key <= end]
    return end, [key for key in keys if not alike(found.get(key), wanted.get(key))]


def alike(found: Document | None, expected: Document | None) -> bool:
    """A place kept for a document that never was one is as good as none."""
    return found == expected or (_is_none(found) and _is_none(expected))


def _is_none(document: Document | None) -> bool:
    return document is None or HIDDEN in document
