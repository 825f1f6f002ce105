"""Verify: waits until nothing moves any more, then compares every read document with the log."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pymongo import MongoClient
from pymongo.database import Database

from tools.demo.fold import COLLECTIONS, Collections, Document, Folded, fold

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

    @property
    def documents(self) -> int:
        return sum(len(documents) for documents in self.stored.values())

    @property
    def wrong_documents(self) -> int:
        return len({(one.collection, one.key) for one in self.differences})


class Books:
    """The demo's database: the log on one side, the read collections on the other."""

    def __init__(self, client: MongoClient[Document], database: str) -> None:
        self._database: Database[Document] = client[database]

    def check(self) -> Checked:
        """Compares the documents as they are now with the log as it is now."""
        folded = fold(self._database["commits"].find({}).sort([("stream", 1), ("first", 1)]))
        stored = {name: self._documents(name) for name in COLLECTIONS}
        differences = compare(folded.collections, stored)
        return Checked(
            folded,
            stored,
            tuple(differences),
            tuple(self._unsettled(folded)),
            self._database["dead_letters"].count_documents({}),
        )

    def _documents(self, collection: str) -> dict[str, Document]:
        return {document["_id"]: document for document in self._database[collection].find({})}

    def _unsettled(self, folded: Folded) -> list[str]:
        pending = self._database["commits"].count_documents({"pending": True})
        found = [f"{pending} commits are not published"] if pending else []
        if left := folded.left_open:
            found.append(f"{len(left)} applications of archived jobs are not closed")
        return found


def settle(books: Books, running: Callable[[], object]) -> Checked:
    """Checks until all is settled and right, or nothing changes that within `PATIENCE` seconds.

    `running` is called meanwhile, to look after the processes.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        checked = books.check()
        if not (checked.unsettled or checked.differences) or time.monotonic() > deadline:
            return checked
        running()
        time.sleep(PAUSE)


def compare(expected: Collections, stored: Collections) -> list[WrongField]:
    """Every field, of every document, of every collection."""
    found: list[WrongField] = []
    for collection in expected:
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
