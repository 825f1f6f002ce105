"""Observer: watches the read collections change, and notes each change that came out of order.

The documents' end says nothing of the way there: a change stream does. Versions of a document may
only grow; the same one again is an effect carried out twice.
"""

import threading
from collections.abc import Mapping
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError

from tools.soak.log import Document

WATCHED = {
    "job_board": "version",
    "job_replicas": "_version",
    "applications_by_job": "_version",
    "applicant_history": "_version",
}
PIPELINE: list[dict[str, Any]] = [
    {
        "$match": {
            "ns.coll": {"$regex": f"^({'|'.join(WATCHED)})(__|$)"},
            "operationType": {"$in": ["insert", "update", "replace"]},
        }
    },
    {
        "$project": {
            "collection": "$ns.coll",
            "key": "$documentKey._id",
            "changed": "$updateDescription.updatedFields",
            "inserted": {"version": "$fullDocument.version", "_version": "$fullDocument._version"},
        }
    },
]
WAIT_MS = 500
PAUSE = 0.5


class Sequence:
    """The versions of documents in the order in which they were written."""

    def __init__(self) -> None:
        self.changes = 0
        self.backwards: list[str] = []
        self.twice: list[str] = []
        self._latest: dict[tuple[str, str], int] = {}

    def forget(self) -> None:
        """What comes from now on need not go on from what was."""
        self._latest.clear()

    def note(self, change: Mapping[str, Any]) -> None:
        """Takes one change, as `PIPELINE` shapes it."""
        collection, key = change["collection"], change["key"]
        fields = change.get("changed") or change.get("inserted") or {}
        version = fields.get(WATCHED[collection.partition("__")[0]])
        if version is None:
            return
        self.changes += 1
        before = self._latest.get((collection, key), 0)
        if version == before:
            self.twice.append(f"{collection} {key}: version {version} was written twice")
        if version < before:
            self.backwards.append(f"{collection} {key}: version {version} after {before}")
        self._latest[collection, key] = version


class Observer:
    """Follows a database's change stream in a thread of its own."""

    def __init__(self, database: Database[Document]) -> None:
        self.sequence = Sequence()
        self._database = database
        self._stopping = threading.Event()
        self._open = threading.Event()
        self._thread: threading.Thread | None = None
        self._token: Mapping[str, Any] | None = None
        self.problem = ""

    def start(self) -> None:
        """Returns when every change from now on will be seen; after `finish`, it begins anew."""
        self._stopping.clear()
        self._open.clear()
        self._token = None
        self.sequence.forget()
        self._thread = threading.Thread(target=self._follow, name="observer", daemon=True)
        self._thread.start()
        if not self._open.wait(60):
            raise TimeoutError(f"the change stream does not open: {self.problem}")

    def finish(self) -> None:
        """Returns when every change up to now was seen."""
        self._stopping.set()
        if self._thread is None:
            return
        self._thread.join(120)
        if self._thread.is_alive():
            self.problem = "the observer did not come to the end of the change stream in time"

    def _follow(self) -> None:
        while True:
            try:
                self._follow_stream()
                return
            except PyMongoError as error:
                self.problem = f"the change stream was lost: {error!s:.300}"
                self._stopping.wait(PAUSE)

    def _follow_stream(self) -> None:
        """Until asked to stop, and then until nothing comes any more."""
        with self._database.watch(
            PIPELINE, resume_after=self._token, max_await_time_ms=WAIT_MS, batch_size=1000
        ) as stream:
            self._token = self._token or stream.resume_token
            self._open.set()
            self.problem = ""
            while True:
                last_look = self._stopping.is_set()
                change = stream.try_next()
                if change is not None:
                    self.sequence.note(change)
                    self._token = stream.resume_token
                elif last_look:
                    return
