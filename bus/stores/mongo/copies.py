"""Copies of another log's commits, stored as they are."""

from collections.abc import Sequence

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError

from bus.data.payload import Document
from bus.errors import ConfigurationError
from bus.stores.event_log import Commit, StoredCommit
from bus.stores.mongo.client import LATEST, Collection
from bus.stores.mongo.failures import DUPLICATE_KEY, reading, writing
from bus.stores.records import commit_document, commit_from, differ, encoded, taken_by_another

IMPORT_WITHIN = 30.0


class Copies:
    """Stores copies into one collection of commits."""

    def __init__(self, commits: Collection) -> None:
        self._commits = commits
        self._latest = commits.with_options(read_concern=LATEST)

    async def store(self, copies: Sequence[StoredCommit]) -> None:
        """Stores copies, for `EventLog.import_commits`."""
        documents = [RawBSONDocument(encoded(_document(copy))) for copy in copies]
        async with writing(IMPORT_WITHIN):
            try:
                await self._commits.insert_many(
                    documents, ordered=False, bypass_document_validation=True
                )
                return
            except BulkWriteError as error:
                failures = error.details["writeErrors"]
                is_durable = not error.details["writeConcernErrors"]
                if not is_durable or any(one["code"] != DUPLICATE_KEY for one in failures):
                    raise
        await self._compare([copies[failure["index"]] for failure in failures])

    async def _compare(self, copies: Sequence[StoredCommit]) -> None:
        """Compares copies with what has taken their places, and sets the marks that differ."""
        async with reading(IMPORT_WITHIN):
            ids = [copy.commit.id for copy in copies]
            cursor = self._latest.find({"_id": {"$in": ids}})
            here: dict[str, Document] = {row["_id"]: row for row in await cursor.to_list(None)}
        for commit, _ in copies:
            if commit.id not in here:
                raise await self._place_taken(commit)
            stored = commit_from(here[commit.id])
            if differ(stored, commit):
                raise taken_by_another(stored, commit)
        for pending, change in ((True, {"$set": {"pending": True}}),
                                (False, {"$unset": {"pending": ""}})):  # fmt: skip
            ids = [
                copy.commit.id
                for copy in copies
                if copy.pending is pending and bool(here[copy.commit.id].get("pending")) != pending
            ]
            if ids:
                async with writing(IMPORT_WITHIN):
                    await self._commits.update_many({"_id": {"$in": ids}}, change)

    async def _place_taken(self, commit: Commit) -> ConfigurationError:
        async with reading():
            place = {"stream": commit.stream, "first": commit.first}
            row: Document | None = await self._latest.find_one(place)
        return taken_by_another(commit_from(row) if row else commit, commit)


def _document(copy: StoredCommit) -> Document:
    document = commit_document(copy.commit)
    if not copy.pending:
        del document["pending"]
    return document
