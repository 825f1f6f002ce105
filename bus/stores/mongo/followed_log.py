"""The followed log in MongoDB: the collection `followed`, a document for each event."""

from collections.abc import Sequence

from bson.raw_bson import RawBSONDocument
from pymongo import IndexModel
from pymongo.errors import BulkWriteError

from bus.errors import InvalidMessage
from bus.stores.event_log import Commit, FollowedLog
from bus.stores.mongo.client import Client
from bus.stores.mongo.clock import ServerClock
from bus.stores.mongo.failures import DUPLICATE_KEY, is_about_content, said, writing
from bus.stores.mongo.log import MongoLog
from bus.stores.records import encoded, followed_document

KEEP_WITHIN = 15.0

ARRIVED = IndexModel([("category", 1), ("arrived", 1), ("first", 1), ("stream", 1)])


class MongoFollowedLog(MongoLog, FollowedLog):
    """What has arrived of other services' streams, journaled on a majority of servers."""

    arrival = "arrived"
    last = "$first"

    def __init__(
        self, client: Client, database_name: str, *, clock: ServerClock | None = None
    ) -> None:
        super().__init__(client, database_name, "followed", ARRIVED, clock=clock)

    async def close(self) -> None:
        """Does nothing."""

    async def keep(self, commits: Sequence[Commit]) -> None:
        now = self.now()
        documents = [RawBSONDocument(encoded(followed_document(new, now))) for new in commits]
        async with writing(KEEP_WITHIN):
            try:
                await self._commits.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if error.details["writeConcernErrors"] or not _only_repeats(error):
                    raise


def _only_repeats(error: BulkWriteError) -> bool:
    """Returns whether all that failed existed already. Raises: InvalidMessage if one is refused."""
    codes = {failure["code"] for failure in error.details["writeErrors"]}
    if any(code != DUPLICATE_KEY and is_about_content(code) for code in codes):
        raise InvalidMessage(f"MongoDB refuses an event of another service: {said(error)}")
    return codes == {DUPLICATE_KEY}
