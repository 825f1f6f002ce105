"""Read collections in MongoDB, and the checkpoints beside them."""

from collections.abc import Collection, Sequence

from pymongo import IndexModel
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from bus.data.ids import key_of
from bus.data.payload import Document
from bus.errors import ConfigurationError, ProjectionError
from bus.observe.health import Finding
from bus.stores.collections import (
    UNUSABLE,
    Browsable,
    ChangeFeed,
    Comparable,
    Index,
    LoadsInBulk,
    StoredDocuments,
    Target,
    Watchable,
    Writer,
)
from bus.stores.documents.updates import VERSION, version_in
from bus.stores.mongo import views
from bus.stores.mongo.changes import MongoChangeFeed
from bus.stores.mongo.client import LATEST, Client, Database, bounded, database, settled
from bus.stores.mongo.clock import ServerClock, check_server
from bus.stores.mongo.documents import MongoDocuments
from bus.stores.mongo.examining import missing_indexes
from bus.stores.mongo.failures import (
    DUPLICATE_KEY,
    ENCODING_ERRORS,
    NAMESPACE_EXISTS,
    is_about_content,
    is_refused,
    reading,
    said,
    translated,
    writing,
)
from bus.stores.mongo.indexes import make_indexes
from bus.stores.mongo.seal import SEAL, Seal
from bus.stores.mongo.writer import MongoWriter
from bus.stores.records import unencodable
from bus.stores.session import OWN_COLLECTIONS

OPEN_WITHIN = 30.0
INSERT_WITHIN = 15.0


class MongoCollections(LoadsInBulk, Comparable, Watchable, Browsable):
    """Read collections and their checkpoints, in one database of a replica set."""

    def __init__(
        self, client: Client, database_name: str, *, clock: ServerClock | None = None
    ) -> None:
        self._client = client
        self._clock = clock or ServerClock()
        self._database = database(client, database_name)
        self._seal = Seal()

    async def open(self, *, makes: bool = True) -> None:
        await check_server(self._client, self._clock)
        if makes:
            async with reading(OPEN_WITHIN):
                await self._make("checkpoints")

    async def close(self) -> None: ...

    async def prepare(self, target: Target) -> Sequence[str]:
        if target.collection in OWN_COLLECTIONS:
            raise ConfigurationError(
                f"projection {target.projection!r}: the collection {target.collection!r} is the "
                f"bus's own; choose another name"
            )
        async with reading(OPEN_WITHIN):
            await self._make(target.collection)
            models = [_index_model(index) for index in target.indexes]
            return await make_indexes(self._database[target.collection], models)

    async def examined_collection(self, target: Target) -> list[Finding]:
        """Returns what is not as declared in a collection. Raises: StoreUnavailable."""
        models = [_index_model(index) for index in target.indexes]
        return await missing_indexes(self._database[target.collection], models)

    async def _make(self, collection: str) -> None:
        """Makes a collection if need be: made within transactions, two writers would conflict."""
        try:
            await self._database.create_collection(collection, check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise

    def documents(self, target: Target) -> StoredDocuments:
        """Returns documents that are read as the primary holds them: right after an election, what
        a majority is known to hold can be older than what a receipt has promised. All their events
        are durable already, so a document that is rolled back is made again as it was.
        """
        collection = self._database[target.collection].with_options(read_concern=LATEST)
        return MongoDocuments(collection, target)

    def changes(self, target: Target) -> ChangeFeed:
        """Returns a feed of what a majority holds, which readers see as well."""
        return MongoChangeFeed(self._client, self._database, target.collection)

    def writer(self, target: Target, queue: str) -> Writer:
        return MongoWriter(self._client, self._database, target, queue, self._seal)

    async def insert(self, target: Target, documents: Sequence[Document]) -> None:
        try:
            async with bounded(INSERT_WITHIN):
                await self._database[target.collection].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            failed = [entry for entry in error.details["writeErrors"] if not _is_taken(entry)]
            if any(is_about_content(entry["code"]) for entry in failed):
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
        return await self._whole(target, {"_id": {"$gt": after}}, limit)

    async def whole(self, target: Target, keys: Sequence[str]) -> dict[str, Document]:
        found = await self._whole(target, {"_id": {"$in": list(keys)}}, 0)
        return {document["_id"]: document for document in found}

    async def _whole(self, target: Target, filter: Document, limit: int) -> list[Document]:
        collection = self._database[target.collection].with_options(read_concern=LATEST)
        async with reading():
            cursor = collection.find(filter).sort([("_id", 1)]).limit(limit)
            found: list[Document] = await cursor.to_list(None)
            return found

    async def sample(self, target: Target, count: int) -> list[str]:
        chosen = [{"$match": {"_id": {"$gte": ""}}}, {"$sample": {"size": count}}]
        pipeline = [*chosen, {"$project": {"_id": 1}}]
        async with reading():
            cursor = await settled(self._database[target.collection].aggregate(pipeline))
            return [row["_id"] for row in await cursor.to_list(None)]

    async def replace(
        self, target: Target, key: str, found: Document | None, wanted: Document | None
    ) -> bool:
        collection = self._database[target.collection]
        # A literal, or MongoDB would take a text such as "$n" in the document for a field.
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
        return await views.show(self._database, name, target)

    async def drop(self, target: Target) -> None:
        own = {"$gte": f"{target.collection}/", "$lt": f"{target.collection}0"}
        async with writing():
            await self._database["checkpoints"].delete_many({"_id": own})
            await self._database.drop_collection(target.collection)

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
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

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        return await identities_in(self._database, names)

    async def seal(self) -> Document:
        async with reading():
            return self._seal.seen(await self._database["checkpoints"].find_one({"_id": SEAL}))

    async def set_seal(self, value: Document) -> None:
        checkpoints = self._database["checkpoints"]
        async with writing():
            await checkpoints.update_one({"_id": SEAL}, self._seal.own(value), upsert=True)


async def identities_in(database: Database, names: Collection[str] | None) -> dict[str, str]:
    """Returns the identities of a database's collections. If names are given, MongoDB looks at no
    others."""
    some = {} if names is None else {"name": {"$in": list(names)}}
    async with reading():
        cursor = await settled(database.list_collections(filter=some))
        found = await cursor.to_list(None)
    infos = {collection["name"]: collection["info"] for collection in found}
    return {name: str(info["uuid"]) for name, info in infos.items() if "uuid" in info}


def _is_taken(failure: Document) -> bool:
    return failure["code"] == DUPLICATE_KEY and "_id" in failure.get("keyPattern", {})


def _index_model(index: Index) -> IndexModel:
    """Returns a model. Unique ones are sparse: hidden documents, without fields, would collide."""
    keys = list(index.keys)
    return IndexModel(keys, unique=True, sparse=True) if index.unique else IndexModel(keys)
