"""All that the soak keeps elsewhere: the stores, and the service that is fed from one of them."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from pymongo import MongoClient
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import PyMongoError

from tools.faults.proxy import Proxy
from tools.services.errors import CommandFailed
from tools.services.jars import search
from tools.services.statements import REFUSALS
from tools.soak.checker import Verdict
from tools.soak.log import Document
from tools.soak.sinks.fold import check_places, check_rows, fold
from tools.soak.sinks.indices import IndexStore
from tools.soak.sinks.plan import FED, KAFKA, KINDS, SEARCH, URLS
from tools.soak.sinks.store import Rows, Store
from tools.soak.sinks.tables import TableStore
from tools.soak.sinks.topic import TopicStore

AWAY: tuple[type[Exception], ...] = (
    *REFUSALS, *search.REFUSALS, CommandFailed, PyMongoError, KeyError
)  # fmt: skip
"""What a store that does not answer, or has nothing to show yet, is told by."""
LOOK_EVERY = 0.2


class Elsewhere:
    """The stores of one soak, by name."""

    def __init__(self, names: Sequence[str], folder: Path, client: "MongoClient[Document]") -> None:
        self.stores: Mapping[str, Store] = {name: _made(name, folder / name) for name in names}
        self._database = client[FED]
        self._looked_at = 0.0
        self.behind = ""
        """Who lacked something when it was last looked for."""
        self.repeats = 0
        """How many of the topic's records repeat others."""

    def start(self) -> None:
        with ThreadPoolExecutor(max(len(self.stores), 1)) as threads:
            list(threads.map(lambda store: store.start(), self.stores.values()))

    def end(self) -> None:
        for store in self.stores.values():
            store.end()

    @property
    def is_fed(self) -> bool:
        """Whether there is a service that is fed from Kafka."""
        return KAFKA in self.stores

    @property
    def wires(self) -> list[Proxy]:
        return [store.wire for store in self.stores.values()]

    @property
    def urls(self) -> dict[str, str]:
        """What leads to the stores, through their wires."""
        return {name: store.wire.url for name, store in self.stores.items()}

    @property
    def environment(self) -> dict[str, str]:
        return {URLS: json.dumps(self.urls)} if self.stores else {}

    @property
    def versions(self) -> dict[str, str]:
        return {name: store.node.version for name, store in self.stores.items()}

    def connections(self) -> list[str]:
        return [one for store in self.stores.values() for one in store.connections()]

    # --- what stands there ---------------------------------------------------------------------

    def found(self, jobs: Collection[str]) -> set[str]:
        """Those of the jobs that are everywhere; none while a store is away. It looks now and then
        only, because it costs them."""
        if not (self.stores and jobs):
            return set(jobs)
        if time.monotonic() < self._looked_at + LOOK_EVERY:
            return set()
        self._looked_at = time.monotonic()
        return self._found(set(jobs))

    def _found(self, jobs: set[str]) -> set[str]:
        try:
            for name, store in self.stores.items():
                jobs = self._noted(name, jobs, store.has(jobs) if jobs else set())
            return self._noted(FED, jobs, self._fed(jobs)) if self.is_fed else jobs
        except AWAY:
            return set()

    def _noted(self, who: str, jobs: set[str], found: set[str]) -> set[str]:
        if jobs - found:
            self.behind = who
        return jobs & found

    def _fed(self, jobs: Collection[str]) -> set[str]:
        found = self._active("jobs").find({"_id": {"$in": list(jobs)}}, {"_id": 1})
        return {document["_id"] for document in found}

    def judge(self, commits: Sequence[Document], verdict: Verdict) -> None:
        """Compares everything with the log."""
        if not self.stores:
            return
        folded = fold(commits)
        try:
            check_rows(folded, self._rows(), verdict)
            if self.is_fed:
                topic = cast(TopicStore, self.stores[KAFKA])
                records = topic.records()
                self.repeats = check_places(folded, records, verdict, emptied=topic.emptied)
                verdict.documents += len(records)
                verdict.others += self._given_up()
        except AWAY as error:
            verdict.others.append(f"a store does not answer: {error!r:.300}")

    def _rows(self) -> dict[str, Rows]:
        found = {name: store.rows() for name, store in self.stores.items() if name != KAFKA}
        return {**found, "documents": self._documents()} if self.is_fed else found

    def _documents(self) -> Rows:
        """Those of the service that is fed."""
        return {
            what: {document["_id"]: document for document in self._active(what).find({})}
            for what in KINDS
        }

    def _active(self, projection: str) -> "MongoCollection[Document]":
        known = self._database["projections"].find_one({"_id": projection}) or {}
        return self._database[known["active"]]

    def _given_up(self) -> list[str]:
        found = [
            f"dead letter {one['_id']} of {FED}: {one['reason']:.200}"
            for one in self._database["dead_letters"].find({})
        ]
        parked = self._database["parked"].find({})
        return found + [f"parked in {FED}: {one!s:.300}" for one in parked]


def _made(name: str, folder: Path) -> Store:
    if name == KAFKA:
        return TopicStore(folder)
    return IndexStore(name, folder) if name in SEARCH else TableStore(name, folder)
