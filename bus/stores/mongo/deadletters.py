"""Dead letters in MongoDB: one document each."""

from collections.abc import Mapping, Sequence

from pymongo import IndexModel

from bus.common import clock
from bus.data.payload import Document
from bus.stores.deadletters import FAILED, GROUPED, KeepsLetters
from bus.stores.mongo.client import Collection, settled
from bus.stores.mongo.failures import reading, writing
from bus.stores.mongo.indexes import need_indexes

LISTED_WITHIN = 30.0
LETTERS = [
    IndexModel([("last_seen", -1)]),
    IndexModel([("first_seen", 1)]),
    *(IndexModel([(key, 1)]) for key in ("fingerprint", "queue", "headers.stream")),
]


class MongoLetters(KeepsLetters):
    """The dead letters in one collection."""

    def __init__(self, letters: Collection) -> None:
        self._letters = letters

    async def index_letters(self) -> None:
        await need_indexes(self._letters, LETTERS)

    async def add_dead_letter(self, letter: Document, times: int = 1) -> None:
        now = clock.now()
        failed = {key: value for key, value in letter.items() if key in FAILED}
        first = {key: value for key, value in letter.items() if key not in (*FAILED, "_id")}
        change = {
            "$setOnInsert": {**first, "first_seen": now},
            "$set": {**failed, "last_seen": now},
            "$inc": {"seen": times},
        }
        async with writing():
            await self._letters.update_one({"_id": letter["_id"]}, change, upsert=True)

    async def dead_letters(
        self,
        limit: int = 100,
        *,
        skip: int = 0,
        where: Mapping[str, str] = {},
        fields: Sequence[str] = (),
    ) -> list[Document]:
        order = [("last_seen", -1), ("_id", 1)]
        async with reading():
            cursor = self._letters.find(dict(where), list(fields) or None)
            cursor = cursor.sort(order).skip(skip).limit(limit)
            found: list[Document] = await cursor.to_list(None)
            return found

    async def dead_letter_ids(self, where: Mapping[str, str] = {}) -> list[str]:
        async with reading(LISTED_WITHIN):
            cursor = self._letters.find(dict(where), {"_id": 1}).sort([("first_seen", 1)])
            return [row["_id"] for row in await cursor.to_list(None)]

    async def dead_letter_groups(self) -> list[Document]:
        group: Document = {field: {"$last": f"${field}"} for field in GROUPED}
        group |= {
            "_id": "$fingerprint",
            "count": {"$sum": 1},
            "first_seen": {"$min": "$first_seen"},
            "last_seen": {"$max": "$last_seen"},
        }
        steps = [
            {"$sort": {"last_seen": 1}},
            {"$group": group},
            {"$sort": {"last_seen": -1}},
            {"$unset": "_id"},
        ]
        async with reading(LISTED_WITHIN):
            cursor = await settled(self._letters.aggregate(steps))
            found: list[Document] = await cursor.to_list(None)
            return found

    async def change_dead_letter(self, id: str, changes: Document) -> bool:
        async with writing():
            done = await self._letters.update_one({"_id": id}, {"$set": changes})
        return bool(done.matched_count)

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        async with writing():
            done = await self._letters.delete_many({"_id": {"$in": list(ids)}})
        return int(done.deleted_count)
