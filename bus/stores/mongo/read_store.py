"""The read store in MongoDB: read collections, checkpoints, and small shared records."""

from collections.abc import Collection, Sequence
from datetime import datetime

from pymongo import IndexModel
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from bus.data.ids import key_of
from bus.data.payload import Document
from bus.errors import ConfigurationError, ProjectionError
from bus.stores.collections import UNUSABLE, ChangeFeed, Index, StoredDocuments, Target, Writer
from bus.stores.control import Note, Parked
from bus.stores.documents.updates import VERSION, version_in
from bus.stores.mongo import views
from bus.stores.mongo.changes import MongoChangeFeed
from bus.stores.mongo.client import LATEST, Client, bounded, check_usable, database, settled
from bus.stores.mongo.clock import ServerClock
from bus.stores.mongo.deadletters import MongoLetters
from bus.stores.mongo.documents import ABSENT, MongoDocuments
from bus.stores.mongo.failures import (
    DUPLICATE_KEY,
    ENCODING_ERRORS,
    NAMESPACE_EXISTS,
    is_about_content,
    is_refused,
    no_transactions,
    reading,
    said,
    translated,
    writing,
)
from bus.stores.mongo.indexes import make_indexes, need_indexes
from bus.stores.mongo.seal import SEAL, Seal
from bus.stores.mongo.writer import MongoWriter
from bus.stores.records import unencodable
from bus.stores.session import OWN_COLLECTIONS

OPEN_WITHIN = 30.0
INSERT_WITHIN = 15.0


class MongoReadStore(MongoLetters):
    """Read collections and the bus's own ones beside them, in one database of a replica set."""

    def __init__(
        self, client: Client, database_name: str, *, clock: ServerClock | None = None
    ) -> None:
        self._client = client
        self._clock = clock or ServerClock()
        self._database = database(client, database_name)
        super().__init__(self._database["dead_letters"])
        self._projections = self._database["projections"]
        self._parked = self._database["parked"]
        self._swept = self._database["swept"]
        self._leases = self._database["leases"]
        self._seal = Seal()

    async def open(self, *, makes: bool = True) -> None:
        """As `ReadStore.open`."""
        check_usable(self._client)
        server = await self._clock.look(self._client)
        if "setName" not in server and server.get("msg") != "isdbgrid":
            raise no_transactions()
        if not makes:
            return
        async with reading(OPEN_WITHIN):
            await need_indexes(self._parked, [IndexModel([("projection", 1)])])
            await self.index_letters()
            await self._make("checkpoints")

    async def close(self) -> None:
        """As `ReadStore.close`."""

    def now(self) -> datetime:
        """As `ReadStore.now`."""
        return self._clock.now()

    async def prepare(self, target: Target) -> Sequence[str]:
        """As `ReadStore.prepare`."""
        if target.collection in OWN_COLLECTIONS:
            raise ConfigurationError(
                f"projection {target.projection!r}: the collection {target.collection!r} is the "
                f"bus's own; choose another name"
            )
        async with reading(OPEN_WITHIN):
            await self._make(target.collection)
            models = [_index_model(index) for index in target.indexes]
            return await make_indexes(self._database[target.collection], models)

    async def _make(self, collection: str) -> None:
        """Makes a collection beforehand: within a transaction, two writers would collide on it."""
        try:
            await self._database.create_collection(collection, check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise

    def documents(self, target: Target) -> StoredDocuments:
        """As `ReadStore.documents`.

        Read as the primary holds them: right after an election, what a majority is known to hold
        can be older than what a receipt has promised. Each of their events is durable already, so
        a document that is rolled back after all is made again as it was.
        """
        collection = self._database[target.collection].with_options(read_concern=LATEST)
        return MongoDocuments(collection, target)

    def changes(self, target: Target) -> ChangeFeed:
        """As `ReadStore.changes`; it tells what a majority holds, which readers see as well."""
        return MongoChangeFeed(self._client, self._database, target.collection)

    def writer(self, target: Target, queue: str) -> Writer:
        """As `ReadStore.writer`."""
        return MongoWriter(self._client, self._database, target, queue, self._seal)

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        """As `ReadStore.insert`."""
        try:
            async with bounded(INSERT_WITHIN):
                await self._database[target.collection].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            failed = [one for one in error.details["writeErrors"] if not _is_taken(one)]
            if any(is_about_content(one["code"]) for one in failed):
                raise ProjectionError(f"MongoDB refuses a document: {said(error)}") from error
            if failed or error.details["writeConcernErrors"]:
                raise translated(error, writing=True) from error
        except ENCODING_ERRORS as error:
            raise ProjectionError(f"a document cannot be stored: {unencodable(error)}") from error
        except PyMongoError as error:
            if is_refused(error):
                raise ProjectionError(f"MongoDB refuses a document: {said(error)}") from error
            raise translated(error, writing=True) from error

    async def page(self, target: Target, after: str, limit: int) -> list[Document]:
        """As `ReadStore.page`."""
        return await self._whole(target, {"_id": {"$gt": after}}, limit)

    async def whole(self, target: Target, keys: Sequence[str]) -> dict[str, Document]:
        """As `ReadStore.whole`."""
        found = await self._whole(target, {"_id": {"$in": list(keys)}}, 0)
        return {document["_id"]: document for document in found}

    async def _whole(self, target: Target, filter: Document, limit: int) -> list[Document]:
        collection = self._database[target.collection].with_options(read_concern=LATEST)
        async with reading():
            cursor = collection.find(filter).sort([("_id", 1)]).limit(limit)
            found: list[Document] = await cursor.to_list(None)
            return found

    async def sample(self, target: Target, count: int) -> list[str]:
        """As `ReadStore.sample`."""
        chosen = [{"$match": {"_id": {"$gte": ""}}}, {"$sample": {"size": count}}]
        pipeline = [*chosen, {"$project": {"_id": 1}}]
        async with reading():
            cursor = await settled(self._database[target.collection].aggregate(pipeline))
            return [row["_id"] for row in await cursor.to_list(None)]

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        """As `ReadStore.replace`."""
        collection = self._database[target.collection]
        unchanged = {"_id": key, "$expr": {"$eq": ["$$ROOT", {"$literal": found}]}}
        async with writing():
            try:
                if found is None and wanted is not None:
                    return bool((await collection.insert_one(dict(wanted))).acknowledged)
                if wanted is None:
                    return bool((await collection.delete_one(unchanged)).deleted_count)
                return bool((await collection.replace_one(unchanged, wanted)).matched_count)
            except DuplicateKeyError:
                return False

    async def show(self, name: str, target: Target | None) -> str | None:
        """As `ReadStore.show`."""
        return await views.show(self._database, name, target)

    async def drop(self, target: Target) -> None:
        """As `ReadStore.drop`."""
        own = {"$gte": f"{target.collection}/", "$lt": f"{target.collection}0"}
        async with writing():
            await self._database["checkpoints"].delete_many({"_id": own})
            await self._parked.delete_many({"projection": target.collection})
            await self._swept.delete_one({"_id": target.collection})
            await self._projections.delete_many({"_id": own})
            await self._database.drop_collection(target.collection)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        """As `ReadStore.versions`."""
        if target.versions_in_documents:
            ids = {key_of(stream): stream for stream in streams}
            name, field, missing = target.collection, VERSION, 0
        else:
            ids = {f"{target.collection}/{stream}": stream for stream in streams}
            name, field, missing = "checkpoints", "version", UNUSABLE
        async with reading():
            cursor = self._database[name].find({"_id": {"$in": list(ids)}}, {field: 1})
            rows = await cursor.to_list(None)
        reached = {ids[row["_id"]]: version_in(row, field, missing) for row in rows}
        return {stream: version for stream, version in reached.items() if version}

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        """As `ReadStore.reached`."""
        if target.versions_in_documents:
            place, name, field, start = {"$gt": after}, target.collection, VERSION, 0
        else:
            start = len(target.collection) + 1
            own = f"{target.collection}/"
            place = {"$gt": f"{own}{after}", "$lt": f"{target.collection}0"}
            name, field = "checkpoints", "version"
        async with reading():
            cursor = self._database[name].find({"_id": place}, {field: 1}).sort([("_id", 1)])
            rows = await cursor.limit(limit).to_list(None)
        return {row["_id"][start:]: version_in(row, field, 0) for row in rows}

    async def park(self, target: Target, parked: Parked) -> None:
        """As `ReadStore.park`."""
        fields = {"projection": target.collection, **parked._asdict()}
        async with writing():
            await self._parked.replace_one(_row(target, parked.stream), fields, upsert=True)

    async def unpark(self, target: Target, stream: str) -> None:
        """As `ReadStore.unpark`."""
        async with writing():
            await self._parked.delete_one(_row(target, stream))

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        """As `ReadStore.parked`."""
        where: Document = {"projection": target.collection}
        if streams is not None:
            where = {"_id": {"$in": [_row(target, stream)["_id"] for stream in streams]}}
        async with reading():
            cursor = self._parked.find(where, {"_id": 0, "projection": 0})
            return [_parked(row) for row in await cursor.to_list(None)]

    async def swept(self, target: Target) -> datetime | None:
        """As `ReadStore.swept`."""
        async with reading():
            row: Document | None = await self._swept.find_one({"_id": target.collection})
        return row["until"] if row else None

    async def mark_swept(self, target: Target, until: datetime) -> None:
        """As `ReadStore.mark_swept`."""
        async with writing():
            await self._swept.replace_one({"_id": target.collection}, {"until": until}, upsert=True)

    async def note(self, key: str) -> Note:
        """As `ReadStore.note`."""
        async with reading():
            row: Document | None = await self._projections.find_one({"_id": key})
        value = {k: v for k, v in (row or {}).items() if k not in ("_id", "revision")}
        return Note(key, value, (row or {}).get("revision", 0))

    async def write_note(self, note: Note) -> bool:
        """As `ReadStore.write_note`. One without a revision is older than revisions are."""
        unchanged = {"_id": note.key, "revision": note.revision or ABSENT}
        fields = {**note.value, "revision": note.revision + 1}
        async with writing():
            try:
                done = await self._projections.replace_one(
                    unchanged, fields, upsert=note.revision == 0
                )
            except DuplicateKeyError:
                return False
        return bool(done.matched_count or done.upserted_id)

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        """As `ReadStore.identities`. By their names alone, MongoDB goes through no others."""
        some = {} if names is None else {"name": {"$in": list(names)}}
        async with reading():
            cursor = await settled(self._database.list_collections(filter=some))
            found = await cursor.to_list(None)
        return {one["name"]: str(one["info"]["uuid"]) for one in found if "uuid" in one["info"]}

    async def seal(self) -> Document:
        """As `ReadStore.seal`."""
        async with reading():
            return self._seal.seen(await self._database["checkpoints"].find_one({"_id": SEAL}))

    async def set_seal(self, value: Document) -> None:
        """As `ReadStore.set_seal`."""
        checkpoints = self._database["checkpoints"]
        async with writing():
            await checkpoints.update_one({"_id": SEAL}, self._seal.own(value), upsert=True)

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """As `ReadStore.lease`; by the server's clock, so that nobody else's can hold it up."""
        over = {"$lte": [{"$ifNull": ["$until", "$$NOW"]}, "$$NOW"]}
        free = {"$or": [over, {"$eq": ["$owner", {"$literal": owner}]}]}
        until = {"$add": ["$$NOW", int(seconds * 1000)]}
        mine = {
            "owner": {"$cond": [free, {"$literal": owner}, "$owner"]},
            "until": {"$cond": [free, until, "$until"]},
        }
        async with writing():
            try:
                held: Document = await self._leases.find_one_and_update(
                    {"_id": name}, [{"$set": mine}], upsert=True, return_document=True
                )
            except DuplicateKeyError:
                return False
        return bool(held["owner"] == owner)


def _parked(row: Document) -> Parked:
    """Without what other releases add."""
    known = {name: row[name] for name in Parked._fields if name in row}
    return Parked(**{**known, "frames": tuple(row.get("frames", ()))})


def _is_taken(failure: Document) -> bool:
    return failure["code"] == DUPLICATE_KEY and "_id" in failure.get("keyPattern", {})


def _row(target: Target, stream: str) -> Document:
    return {"_id": f"{target.collection}/{stream}"}


def _index_model(index: Index) -> IndexModel:
    """Unique indexes are sparse: hidden documents, which have no fields, must not collide."""
    keys = list(index.keys)
    return IndexModel(keys, unique=True, sparse=True) if index.unique else IndexModel(keys)
