"""Fills a service's log, and its read collection to match, as if its commands had run long ago.

The commits are those that the bus stores, confirmed by the broker; the documents hold the versions.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, WriteConcern

from bench.growth.service import note
from bus.common import clock
from bus.stores.event_log import Commit, Recorded
from bus.stores.mongo.event_log import PENDING
from bus.stores.mongo.log import INDEXES
from bus.stores.records import commit_document, encoded

CHUNK = 2000
SPREAD_OVER = 30 * 24 * 3600.0
UNTIL_AGO = 3600.0


class Past(clock.Source):
    """A clock that is set by hand: ids sort by time, so they must come from the past too."""

    def __init__(self) -> None:
        super().__init__()
        self.at = super().seconds()

    def seconds(self) -> float:
        return self.at


def fill(mongo_url: str, database: str, count: int, payload: int, *, swept: bool = True) -> None:
    """So many commits of one event each, on streams `account-p0`, `account-p1` ..., their documents
    in `views`; with `swept`, these were compared with the log just now."""
    with MongoClient[dict[str, Any]](mongo_url) as client:
        # Not journaled one by one; the checkpoint below makes all of it durable.
        filled = client.get_database(database, write_concern=WriteConcern(w=1, j=False))
        filled["commits"].create_indexes([*INDEXES, PENDING])
        for commits in chunks(count, payload):
            documents = [confirmed(one) for one in commits]
            filled["commits"].insert_many(documents, ordered=False)
            filled["views"].insert_many([_view(one) for one in commits], ordered=False)
        kind = {"versions_in_documents": True}
        filled["projections"].insert_one({"_id": "views", **kind})
        if swept:
            filled["swept"].insert_one({"_id": "views", "until": datetime.now(UTC)})
        client.admin.command("fsync")


def chunks(count: int, payload: int) -> Iterator[list[Commit]]:
    """The commits, as of the last thirty days."""
    past = Past()
    end = past.at - UNTIL_AGO
    for first in range(0, count, CHUNK):
        real, clock.source = clock.source, past
        try:
            made = []
            for number in range(first, min(first + CHUNK, count)):
                past.at = end - SPREAD_OVER * (1 - number / count)
                made.append(commit(number, payload))
        finally:
            clock.source = real
        yield made


def commit(number: int, payload: int) -> Commit:
    """The commit of a command that opened the account `p<number>`."""
    key, id = f"p{number}", clock.new_id()
    data = {"account_id": key, "owner": "Ada", "note": note(payload)}
    return Commit(
        id=id,
        stream=f"account-{key}",
        category="account",
        first=1,
        events=(Recorded("Opened", 1, data),),
        time=clock.now(),
        correlation_id=id,
        causation_id=id,
        message="Open",
    )


def confirmed(one: Commit) -> RawBSONDocument:
    """The commit as it stands in the log once the broker has confirmed its events."""
    document = commit_document(one)
    del document["pending"]
    return RawBSONDocument(encoded(document))


def _view(one: Commit) -> dict[str, Any]:
    data = one.events[0].data
    key = data["account_id"]
    return {"_id": key, "owner": data["owner"], "note": data["note"], "_version": 1}
