"""Snapshots in MongoDB: a document for each stream, a cache that may be dropped."""

from collections.abc import Sequence

from pymongo.errors import DuplicateKeyError

from bus.stores.event_log import Snapshot
from bus.stores.mongo.client import Collection
from bus.stores.mongo.failures import reading, writing
from bus.stores.records import encoded
from bus.stores.together.shared_reads import Read, SharedReads


class MongoSnapshots:
    """The latest snapshots of streams."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._reads = SharedReads(self._find)

    async def find(self, stream: str) -> Snapshot | None:
        """Returns the latest snapshot of a stream, or None."""
        found: Snapshot | None = await self._reads.read(stream)
        return found

    async def save(self, snapshot: Snapshot) -> None:
        """Replaces an older snapshot of the stream; an equal or newer one stays."""
        fields = {**snapshot._asdict(), "_id": snapshot.stream}
        older = {"_id": snapshot.stream, "version": {"$lt": snapshot.version}}
        encoded(fields)
        async with writing():
            try:
                await self._collection.replace_one(older, fields, upsert=True)
            except DuplicateKeyError:
                return

    async def close(self) -> None:
        """Waits until reads that were begun are done."""
        await self._reads.close()

    async def _find(self, group: Sequence[Read]) -> None:
        async with reading():
            rows = await self._collection.find(
                {"_id": {"$in": [read.stream for read in group]}}
            ).to_list(None)
        found = {
            row["_id"]: Snapshot(row["_id"], row["version"], row["shape"], row["state"])
            for row in rows
        }
        for read in group:
            read.answer(found.get(read.stream))
