"""The log in MongoDB, beside the documents."""

from pymongo import MongoClient

from tools.faults.mongo_set import MongoSet
from tools.soak.log import OF_MODELS, Document, Log
from tools.soak.plan import SERVICE
from tools.soak.service import SEEN


class MongoLog(Log):
    """The collection `commits`."""

    def __init__(self, servers: MongoSet, client: "MongoClient[Document]") -> None:
        self._servers = servers
        self.node = servers.nodes[0]
        self._database = client[SERVICE]
        self._commits = self._database["commits"]

    def start(self) -> None:
        self._servers.start()

    def commits(self) -> list[Document]:
        of_models = {"category": {"$in": OF_MODELS}}
        return list(self._commits.find(of_models).sort([("stream", 1), ("first", 1)]))

    def pending(self) -> int:
        return self._commits.count_documents({"pending": True})

    def publish_again(self, category: str, *, skip: int, count: int) -> None:
        recent = self._commits.find({"category": category}, {"_id": 1}).sort("time", -1).skip(skip)
        ids = [commit["_id"] for commit in recent.limit(count)]
        self._commits.update_many({"_id": {"$in": ids}}, {"$set": {"pending": True}})

    def noted(self) -> dict[str, int]:
        return {document["_id"]: document["times"] for document in self._database[SEEN].find({})}
