"""Reads and writes of a read collection, inside and outside of a transaction."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from pymongo import DeleteOne, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError, WriteError

from bus.data.ids import key_of
from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.stores.asking import check_part
from bus.stores.collections import StoredDocuments, Target, WritableDocuments
from bus.stores.documents.matching import refusal
from bus.stores.documents.order import order_of
from bus.stores.documents.updates import (
    HIDDEN,
    KEPT,
    VERSION,
    Advance,
    Bury,
    Delete,
    Step,
    Update,
    asked,
    buried,
    by_whom,
    refused_update,
    unkept,
    updated,
    version_in,
)
from bus.stores.grouping import Grouping
from bus.stores.mongo.client import Collection, MongoSession, bounded, settled
from bus.stores.mongo.failures import (
    DUPLICATE_KEY,
    ENCODING_ERRORS,
    is_about_content,
    is_refused,
    is_refused_question,
    said,
    translated,
)
from bus.stores.mongo.transactions import MongoConflict
from bus.stores.records import READING, unencodable, unkeepable

Operation = UpdateOne | ReplaceOne[Document] | DeleteOne

ABSENT = {"$exists": False}


class RefusedWrite(ProjectionError):
    """MongoDB refuses one of several writes."""

    def __init__(self, what: str, index: int) -> None:
        super().__init__(what)
        self.index = index


class Mistaken(Exception):
    """The versions are not those that were believed."""


class MongoDocuments(StoredDocuments):
    """Reads one collection, without hidden documents and the bus's own fields."""

    def __init__(
        self, collection: Collection, target: Target, session: MongoSession | None = None
    ) -> None:
        if collection.codec_options is not READING:
            collection = collection.with_options(codec_options=READING)
        self._collection = collection
        self._versioned = target.versions_in_documents
        self._session = session
        self._own_fields = {VERSION: 0, HIDDEN: 0} if self._versioned else None

    async def find_one(self, filter: Mapping[str, Any]) -> Document | None:
        wanted = asked(filter, versioned=self._versioned)
        async with self._reading(filter):
            found: Document | None = await self._collection.find_one(
                wanted, self._own_fields, session=self._session
            )
        return found

    async def find(
        self,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, Any]] = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[Document]:
        check_part(sort, skip, limit)
        wanted = asked(filter, versioned=self._versioned)
        async with self._reading(filter):
            cursor = self._collection.find(
                wanted,
                self._own_fields,
                sort=list(sort) or None,
                skip=skip,
                limit=limit,
                session=self._session,
            )
            found: list[Document] = await cursor.to_list(None)
            return found

    async def count(self, filter: Mapping[str, Any]) -> int:
        wanted = asked(filter, versioned=self._versioned)
        async with self._reading(filter):
            counted: int = await self._collection.count_documents(wanted, session=self._session)
            return counted

    async def distinct(self, field: str, filter: Mapping[str, Any]) -> list[Any]:
        wanted = asked(filter, versioned=self._versioned)
        async with self._reading(filter):
            found = await self._collection.distinct(field, wanted, session=self._session)
        return sorted(found, key=order_of)

    async def group(self, grouping: Grouping, filter: Mapping[str, Any]) -> list[Document]:
        wanted = asked(filter, versioned=self._versioned)
        pipeline = [{"$match": wanted}, *stages_of(grouping)]
        async with self._reading(filter):
            cursor = await settled(self._collection.aggregate(pipeline, session=self._session))
            return [row_of(grouping, found) for found in await cursor.to_list(None)]

    @asynccontextmanager
    async def _reading(self, filter: Mapping[str, Any]) -> AsyncIterator[None]:
        try:
            async with bounded():
                yield
        except ENCODING_ERRORS as error:
            raise ProjectionError(
                f"the filter cannot be asked: {unencodable(error)}; {KEPT}"
            ) from error
        except PyMongoError as error:
            if not is_refused_question(error):
                self._note(error)
                raise translated(error, writing=False) from error
            refused = ProjectionError(refusal(filter, f"MongoDB says {said(error)}"))
            self._note_refused(refused)
            raise refused from error

    def _note(self, error: PyMongoError) -> None:
        """Does nothing; a transaction notes what failed within it."""

    def _note_refused(self, error: ProjectionError) -> None:
        """Does nothing; a transaction notes the refusal that ended it."""


class MongoUnit(MongoDocuments, WritableDocuments):
    """A batch's transaction, as the fold sees it."""

    def __init__(self, collection: Collection, target: Target, session: MongoSession) -> None:
        super().__init__(collection, target, session)
        self.versions: dict[str, int] = {}
        self.hidden: set[str] = set()
        self.failure: PyMongoError | MongoConflict | None = None
        """The error that ended the transaction, even if the fold swallows it."""
        self.refused: ProjectionError | None = None
        """The same, if repeating cannot help."""

    @property
    def documents(self) -> "MongoUnit":
        """The unit itself."""
        return self

    async def read_versions(self, streams: Sequence[str]) -> None:
        """Reads the versions of these streams, and which documents are hidden."""
        keys = [key_of(stream) for stream in streams]
        async with bounded():
            rows = await self._collection.find(
                {"_id": {"$in": keys}}, {VERSION: 1, HIDDEN: 1}, session=self._session
            ).to_list(None)
        reached = {row["_id"]: version_in(row, VERSION, 0) for row in rows}
        places = zip(streams, keys, strict=True)
        self.versions = {stream: reached.get(key, 0) for stream, key in places}
        self.hidden = {row["_id"] for row in rows if row.get(HIDDEN)}

    async def update(self, key: str, update: Mapping[str, Any]) -> None:
        await self._write_now(updated(key, update, self.hidden, called=True))

    async def delete(self, key: str) -> None:
        await self._write_now(buried(key, 0, self.hidden) if self._versioned else Delete(key))

    async def _write_now(self, step: Step) -> None:
        try:
            await self.write([step])
        except MongoConflict as error:
            self.failure = error
            raise
        except PyMongoError as error:
            self.failure = error
            raise translated(error, writing=False) from error
        except ProjectionError as error:
            if isinstance(error.__cause__, PyMongoError):
                self.refused = error
            raise

    async def write(self, steps: Iterable[Step]) -> None:
        """Writes in order. Raises: PyMongoError, MongoConflict, ProjectionError."""
        steps = list(steps)
        operations = [_operation(step, {"_id": step.key}) for step in steps]
        try:
            if len(steps) == 1 and isinstance(steps[0], Update):
                await self._update_one(steps[0])
            else:
                await bulk_write(self._collection, operations, self._session)
        except RefusedWrite as error:
            raise _refused(steps[error.index], error) from error.__cause__
        except ProjectionError as error:
            raise _unkept(steps, error) from error.__cause__

    async def _update_one(self, step: Update) -> None:
        """Does what `bulk_write` would do, with much less work for the driver."""
        async with writing_within():
            await self._collection.update_one(
                {"_id": step.key}, step.update, upsert=True, session=self._session
            )

    async def write_believing(self, steps: Iterable[Step], versions: Mapping[str, int]) -> None:
        """Writes in order, if each document is at its version. Raises: PyMongoError, Mistaken."""
        unproven = {key_of(stream): version for stream, version in versions.items()}
        operations: list[Operation] = []
        for step in steps:
            version = unproven.pop(step.key, None)
            if version is None:  # an earlier write of this batch has proven it
                operations.append(_operation(step, {"_id": step.key}))
            else:
                operations.append(_operation(step, _place(step, version), upsert=version == 0))
        await bulk_write_believing(self._collection, operations, self._session)

    def _note(self, error: PyMongoError) -> None:
        self.failure = error

    def _note_refused(self, error: ProjectionError) -> None:
        self.refused = error


async def bulk_write(
    collection: Collection, operations: Sequence[Operation], session: MongoSession
) -> int:
    """Writes in order, in a transaction; returns how many documents were found or created.

    Raises: PyMongoError, MongoConflict, ProjectionError.
    """
    if not operations:
        return 0
    async with writing_within():
        done = await collection.bulk_write(operations, session=session)
    return int(done.matched_count + done.upserted_count)


@asynccontextmanager
async def writing_within() -> AsyncIterator[None]:
    """Bounds writes within a transaction. Raises: PyMongoError, MongoConflict, ProjectionError."""
    try:
        async with bounded():
            yield
    except BulkWriteError as error:
        _raise_reason(error, error.details["writeErrors"])
    except WriteError as error:
        _raise_reason(error, [error.details or {}])
    except PyMongoError as error:
        if is_refused(error):
            raise ProjectionError(f"MongoDB refuses a write: {said(error)}") from error
        raise
    except ENCODING_ERRORS as error:
        raise ProjectionError(f"a write cannot be stored: {unencodable(error)}") from error


async def bulk_write_believing(
    collection: Collection, operations: Sequence[Operation], session: MongoSession
) -> None:
    """Writes in order, in a transaction. Raises: PyMongoError; Mistaken if a write found nothing.

    Any other fault of a write is raised as Mistaken too: it may follow from the mistake, and shows
    again without it.
    """
    try:
        found = await bulk_write(collection, operations, session)
    except (MongoConflict, ProjectionError):
        raise Mistaken from None
    if found < len(operations):
        raise Mistaken


def _place(step: Step, version: int) -> Document:
    """Returns a filter for the step's document that matches only at this version, and if it is as
    visible as believed."""
    place: Document = {"_id": step.key, VERSION: version or ABSENT}
    return {**place, HIDDEN: ABSENT} if version and isinstance(step, Update) else place


def _operation(step: Step, place: Document, *, upsert: bool = True) -> Operation:
    match step:
        case Update(_, update):
            return UpdateOne(place, update, upsert=upsert)
        case Delete():
            return DeleteOne(place)
        case Bury(_, version):
            return ReplaceOne(place, {VERSION: version, HIDDEN: True}, upsert=upsert)
        case Advance(_, version):
            stub = {"$set": {VERSION: version}, "$setOnInsert": {HIDDEN: True}}
            return UpdateOne(place, stub, upsert=upsert)


def _raise_reason(error: OperationFailure, failures: Sequence[Mapping[str, Any]]) -> NoReturn:
    """Raises: MongoConflict (a taken `_id`: another writer was first), RefusedWrite (the write is
    at fault), or the error itself (the server is)."""
    if not failures or not is_about_content(failures[0]["code"]):
        raise error
    failed = failures[0]
    if error.has_error_label("TransientTransactionError"):
        raise error
    if failed["code"] == DUPLICATE_KEY and "_id" in failed.get("keyPattern", {}):
        raise MongoConflict("another writer made the document first")
    raise RefusedWrite(said(error), failed.get("index", 0)) from error


def _refused(step: Step, error: RefusedWrite) -> ProjectionError:
    if not isinstance(step, Update):
        return ProjectionError(f"MongoDB refuses the write of {step.key!r:.300}: {error}")
    return by_whom(step.by, refused_update(step.key, step.update, f"MongoDB refuses it ({error})"))


def _unkept(steps: Sequence[Step], error: ProjectionError) -> ProjectionError:
    """Returns the error for the update that cannot be encoded; the same error if none is found."""
    for step in steps:
        if isinstance(step, Update) and (unkeepable(step.update) or unkeepable(step.key)):
            return by_whom(step.by, unkept(step.key, step.update))
    return error


# --- groups and totals, under names of their own -------------------------------------------------


def stages_of(grouping: Grouping) -> list[Document]:
    """Returns the stages after the filter."""
    key = {f"k{n}": {"$ifNull": [f"${field}", None]} for n, field in enumerate(grouping.by)}
    totals = {
        f"t{n}": {total.operator: f"${total.field}" if total.field else 1}
        for n, total in enumerate(grouping.totals.values())
    }
    places = {field: f"_id.k{n}" for n, field in enumerate(grouping.by)}
    places |= {name: f"t{n}" for n, name in enumerate(grouping.totals)}
    stages: list[Document] = [{"$group": {"_id": key or None, **totals}}]
    if order := {places[name]: direction for name, direction in grouping.order}:
        stages.append({"$sort": order})
    return [*stages, {"$limit": grouping.limit}] if grouping.limit else stages


def row_of(grouping: Grouping, found: Mapping[str, Any]) -> Document:
    """Returns a group as a row, under the names that were asked for."""
    row = {field: found["_id"][f"k{n}"] for n, field in enumerate(grouping.by)}
    return row | {name: found[f"t{n}"] for n, name in enumerate(grouping.totals)}
