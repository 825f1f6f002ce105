"""The third service: where its worker's documents are, and what its worker needs to know."""

from collections.abc import Mapping

from pymongo import MongoClient

from tools.demo.fold import COUNTS, Collections, Document

TARGET = "handlers.statistics_app:build"


class Statistics:
    """A database of its own, beside that of the service whose events it counts."""

    def __init__(self, client: MongoClient[Document], service: str) -> None:
        self._client = client
        self._jobs = service
        self.name = f"{service}_statistics"

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of its worker, which knows neither RabbitMQ nor the other's log."""
        return {
            "BUS_AMQP_URL": "memory://",
            "BUS_MONGO_DB": self.name,
            "BUS_LOG_URL": "",
            "JOBS_SERVICE": self._jobs,
            "STATISTICS_SERVICE": self.name,
        }

    @property
    def given_up(self) -> int:
        """How many records it could not read."""
        return self._client[self.name]["dead_letters"].count_documents({})

    def read(self) -> Collections:
        return {COUNTS: {one["_id"]: one for one in self._client[self.name][COUNTS].find({})}}

    def drop(self) -> None:
        self._client.drop_database(self.name)
