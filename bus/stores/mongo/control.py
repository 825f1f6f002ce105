"""Control in MongoDB: parked streams, marks of sweeps, leases, notes, dead letters."""

from collections.abc import Collection
from datetime import datetime

from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from bus.data.payload import Document
from bus.observe.health import Examined, Finding
from bus.stores.collections import Target
from bus.stores.control import Control, Note, Parked
from bus.stores.mongo.client import Client, database
from bus.stores.mongo.clock import ServerClock, check_server
from bus.stores.mongo.collections import identities_in
from bus.stores.mongo.deadletters import LETTERS, MongoLetters
from bus.stores.mongo.documents import ABSENT
from bus.stores.mongo.examining import examined, missing_indexes
from bus.stores.mongo.failures import reading, writing
from bus.stores.mongo.indexes import need_indexes

OPEN_WITHIN = 30.0
PARKED = IndexModel([("projection", 1)])


class MongoControl(MongoLetters, Control, Examined):
    """A service's own records, in one database of a replica set."""

    def __init__(
        self, client: Client, database_name: str, *, clock: ServerClock | None = None
    ) -> None:
        self._client = client
        self._clock = clock or ServerClock()
        self._database = own = database(client, database_name)
        super().__init__(own["dead_letters"])
        self._notes = own["projections"]
        self._parked = own["parked"]
        self._swept = own["swept"]
        self._leases = own["leases"]

    async def open(self, *, makes: bool = True) -> None:
        await check_server(self._client, self._clock)
        if makes:
            async with reading(OPEN_WITHIN):
                await need_indexes(self._parked, [PARKED])
                await self.index_letters()

    async def close(self) -> None: ...

    async def examined(self) -> list[Finding]:
        found = await examined(self._client, self._database, self._clock)
        if any(finding.level == "error" for finding in found):
            return found
        parked = await missing_indexes(self._parked, [PARKED])
        return [*found, *parked, *await missing_indexes(self._letters, LETTERS)]

    def now(self) -> datetime:
        return self._clock.now()

    async def drop(self, target: Target) -> None:
        own = {"$gte": f"{target.collection}/", "$lt": f"{target.collection}0"}
        async with writing():
            await self._parked.delete_many({"projection": target.collection})
            await self._swept.delete_one({"_id": target.collection})
            await self._notes.delete_many({"_id": own})

    async def park(self, target: Target, parked: Parked) -> None:
        fields = {"projection": target.collection, **parked._asdict()}
        async with writing():
            await self._parked.replace_one(_row(target, parked.stream), fields, upsert=True)

    async def unpark(self, target: Target, stream: str) -> None:
        async with writing():
            await self._parked.delete_one(_row(target, stream))

    async def parked(self, target: Target, streams: Collection[str] | None = None) -> list[Parked]:
        where: Document = {"projection": target.collection}
        if streams is not None:
            where = {"_id": {"$in": [_row(target, stream)["_id"] for stream in streams]}}
        async with reading():
            cursor = self._parked.find(where, {"_id": 0, "projection": 0})
            return [_parked(row) for row in await cursor.to_list(None)]

    async def swept(self, target: Target) -> datetime | None:
        async with reading():
            row: Document | None = await self._swept.find_one({"_id": target.collection})
        return row["until"] if row else None

    async def mark_swept(self, target: Target, until: datetime) -> None:
        async with writing():
            await self._swept.replace_one({"_id": target.collection}, {"until": until}, upsert=True)

    async def note(self, key: str) -> Note:
        async with reading():
            row: Document | None = await self._notes.find_one({"_id": key})
        value = {k: v for k, v in (row or {}).items() if k not in ("_id", "revision")}
        return Note(key, value, (row or {}).get("revision", 0))

    async def write_note(self, note: Note) -> bool:
        """Writes a note, also over one from a release that knew no revisions."""
        unchanged = {"_id": note.key, "revision": note.revision or ABSENT}
        fields = {**note.value, "revision": note.revision + 1}
        async with writing():
            try:
                done = await self._notes.replace_one(unchanged, fields, upsert=note.revision == 0)
            except DuplicateKeyError:
                return False
        return bool(done.matched_count or done.upserted_id)

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        return await identities_in(self._database, names)

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        """Takes a lease by the server's clock, so that no wrong clock can hold it up."""
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
    """Returns a parked stream, without fields that other releases add."""
    known = {name: row[name] for name in Parked._fields if name in row}
    return Parked(**{**known, "frames": tuple(row.get("frames", ()))})


def _row(target: Target, stream: str) -> Document:
    return {"_id": f"{target.collection}/{stream}"}
