"""States of aggregates in MongoDB: a document for each stream, written with its commits."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import IndexModel, ReplaceOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from bus.data.payload import Document
from bus.errors import ConfigurationError, InvalidMessage, NotAllowed
from bus.observe.log import Logger
from bus.stores.event_log import Commit, Snapshot
from bus.stores.mongo.client import LATEST, Collection, Database, MongoSession, bounded
from bus.stores.mongo.failures import (
    DUPLICATE_KEY,
    NAMESPACE_EXISTS,
    is_about_content,
    reading,
    said,
    writing,
)
from bus.stores.mongo.indexes import make_indexes
from bus.stores.records import NotOlder, encoded, state_document, state_from, states_filter
from bus.stores.together.shared_reads import Read, SharedReads

SCHEMAS = IndexModel([("category", 1), ("schema", 1)])

Write = ReplaceOne[Any]

PREPARE_WITHIN = 600.0
FORGET_WITHIN = 600.0

log = Logger("bus.stores")


class MongoStates:
    """The collection `states`. As for commits, what the primary holds is read: a decision based on
    a state that is rolled back is rolled back with it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._collection: Collection = database["states"]
        self._latest = self._collection.with_options(read_concern=LATEST)
        self._reads = SharedReads(self._find)

    async def find(self, stream: str) -> Snapshot | None:
        """Returns the state of a stream; reads that arrive together share one query."""
        found: Snapshot | None = await self._reads.read(stream)
        return found

    async def select(
        self, category: str, fields: Mapping[str, Any], limit: int, shape: str, after: str
    ) -> list[Snapshot]:
        """Returns states for `EventLog.states`."""
        wanted = states_filter(category, fields, shape=shape, after=after)
        async with reading():
            found = self._latest.find(wanted).limit(limit)
            # By fields, the server would fetch all that match to sort them, however many.
            rows = await (found if fields else found.sort([("_id", 1)])).to_list(None)
        return sorted(map(state_from, rows))

    async def write(self, writes: Sequence[Write], session: MongoSession) -> None:
        """Stores states as a part of a transaction.

        Raises: NotOlder, InvalidMessage, the driver's errors.
        """
        try:
            async with bounded():
                await self._collection.bulk_write(writes, session=session)
        except BulkWriteError as error:
            codes = [failure["code"] for failure in error.details["writeErrors"]]
            if DUPLICATE_KEY in codes:
                raise NotOlder from None
            if any(map(is_about_content, codes)):
                raise InvalidMessage(f"MongoDB refuses the state: {said(error)}") from error
            raise

    async def save(self, state: Snapshot) -> None:
        """Stores a state in place of one that is not newer."""
        document = state_document(state)
        encoded(document)
        async with writing():
            try:
                await self._collection.replace_one(
                    {"_id": state.stream, "version": {"$lte": state.version}}, document, upsert=True
                )
            except DuplicateKeyError:
                return

    async def prepare(self, category: str, fields: Sequence[str]) -> None:
        """Makes the collection and the category's indexes, and drops former ones.

        Raises: StoreUnavailable, ConfigurationError.
        """
        models = {_name(category, field): _index(category, field) for field in fields}
        async with reading(PREPARE_WITHIN):
            await self._make()
            if problems := await make_indexes(self._collection, [SCHEMAS, *models.values()]):
                raise ConfigurationError(f"{'; '.join(problems)}; then start again")
        await self._drop_indexes(category, keep=models)

    async def forget(self, category: str) -> None:
        """Drops the states of a category with their indexes, or all states."""
        async with writing(FORGET_WITHIN):
            await self._collection.delete_many({"category": category} if category else {})
        if category:
            await self._drop_indexes(category)

    async def close(self) -> None:
        """Waits until reads that were begun are done."""
        await self._reads.close()

    async def _make(self) -> None:
        """Makes the collection: made within a transaction, two writers would conflict."""
        try:
            await self._database.create_collection("states", check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise

    async def _drop_indexes(self, category: str, keep: Mapping[str, Any] = {}) -> None:
        """Drops indexes that are not declared; one that stays costs time, and nothing else."""
        try:
            async with reading(PREPARE_WITHIN):
                there = await self._collection.index_information()
                for name in there:
                    if name.startswith(_name(category, "")) and name not in keep:
                        await self._collection.drop_index(name)
        except NotAllowed as error:
            log.warning("index_not_dropped", category=category, reason=str(error))

    async def _find(self, group: Sequence[Read]) -> None:
        async with reading():
            rows: list[Document] = await self._latest.find(
                {"_id": {"$in": [read.stream for read in group]}}
            ).to_list(None)
        found = {row["_id"]: state_from(row) for row in rows}
        for read in group:
            read.answer(found.get(read.stream))


def writes_of(commits: Sequence[Commit]) -> list[Write]:
    """Returns the writes of commits' states. Raises: InvalidMessage if one cannot be stored."""
    states = [commit.state for commit in commits if commit.state]
    return [write_of(state, encoded(state_document(state))) for state in states]


def write_of(state: Snapshot, document: bytes) -> Write:
    """Returns what puts a state, encoded, in the place of an older one."""
    older = {"_id": state.stream, "version": {"$lt": state.version}}
    return ReplaceOne(older, RawBSONDocument(document), upsert=True)


def _name(category: str, field: str) -> str:
    return f"{category}.{field}"


def _index(category: str, field: str) -> IndexModel:
    """Returns the index of a field for one category alone: others have other fields."""
    return IndexModel(
        [(f"state.{field}", 1)],
        name=_name(category, field),
        partialFilterExpression={"category": category},
    )
