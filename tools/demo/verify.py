"""Verify: waits until nothing moves any more, then compares with the log all that is made of it:
every read document, the states of aggregates, the bookings, and what other stores hold."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pymongo.database import Database

from tools.demo.fold import BOOKINGS, COLLECTIONS, STATES, Collections, Document, Folded, fold
from tools.demo.stores import Stores
from tools.demo.written import Written

PATIENCE = 60.0
PAUSE = 0.25


class WrongField(NamedTuple):
    """A field of a stored document that is not what the log says; None where one side lacks it."""

    collection: str
    key: str
    field: str
    expected: Any
    stored: Any


class Checked(NamedTuple):
    """What a comparison found. `unsettled` tells what was still moving when patience ended."""

    folded: Folded
    stored: Collections
    differences: tuple[WrongField, ...]
    unsettled: tuple[str, ...]
    given_up: int

    def count(self, *collections: str) -> int:
        """Returns how many documents there are."""
        return sum(len(self.stored.get(name, ())) for name in collections)

    def wrong(self, *collections: str) -> int:
        """Returns how many of them are not what the log says, or are missing, or too many."""
        found = {(one.collection, one.key) for one in self.differences}
        return sum(name in collections for name, _ in found)


class Books:
    """What the demo's service has stored: the log on one side, what is made of it on the other."""

    def __init__(
        self, database: Database[Document], written: Written, stores: Stores | None = None
    ) -> None:
        self._database = database
        self._written = written
        self._stores = stores

    def check(self) -> Checked:
        """Compares all as it is now with the log as it is now."""
        folded = fold(self._written.commits())
        stored: dict[str, Mapping[str, Document]]
        stored = {name: self._documents(name) for name in COLLECTIONS}
        stored |= {STATES: self._written.states(), BOOKINGS: self._written.bookings()}
        stored |= self._stores.read() if self._stores else {}
        differences = compare({**folded.collections, **folded.written, **folded.elsewhere}, stored)
        return Checked(
            folded,
            stored,
            tuple(differences),
            tuple(self._unsettled(folded)),
            self._given_up(),
        )

    def _given_up(self) -> int:
        elsewhere = self._stores.given_up if self._stores else 0
        return self._database["dead_letters"].count_documents({}) + elsewhere

    def _documents(self, collection: str) -> dict[str, Document]:
        return {document["_id"]: document for document in self._database[collection].find({})}

    def _unsettled(self, folded: Folded) -> list[str]:
        pending = self._written.pending()
        found = [f"{pending} commits are not published"] if pending else []
        if left := folded.left_open:
            found.append(f"{len(left)} applications of archived jobs are not closed")
        if left := folded.left_planned:
            found.append(f"{len(left)} interviews of closed applications are not called off")
        return found


def settle(books: Books, running: Callable[[], object], *, patience: float = PATIENCE) -> Checked:
    """Checks until all is settled and right, or nothing changes that within `patience` seconds.

    `running` is called meanwhile, to look after the processes.
    """
    deadline = time.monotonic() + patience
    while True:
        checked = books.check()
        if not (checked.unsettled or checked.differences) or time.monotonic() > deadline:
            return checked
        running()
        time.sleep(PAUSE)


def compare(expected: Collections, stored: Collections) -> list[WrongField]:
    """Every field, of every document, of every collection."""
    found: list[WrongField] = []
    for collection in expected.keys() & stored.keys():
        ours, theirs = expected[collection], stored[collection]
        for key in ours.keys() | theirs.keys():
            found += _of_document(collection, key, ours.get(key, {}), _own(theirs.get(key, {})))
    return found


def _of_document(
    collection: str, key: str, expected: Document, stored: Mapping[str, Any]
) -> list[WrongField]:
    return [
        WrongField(collection, key, field, expected.get(field), stored.get(field))
        for field in sorted(expected.keys() | stored.keys())
        if expected.get(field) != stored.get(field)
    ]


def _own(document: Document) -> Document:
    """The document without what the bus adds to it."""
    return {field: value for field, value in document.items() if not field.startswith("_")}
