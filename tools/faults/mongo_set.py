"""A replica set of private MongoDB members, whose primary can be killed, frozen or told to go."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, PyMongoError

from tools.services.entered import Entered
from tools.services.errors import ServiceUnavailable
from tools.services.mongodb import MongoNode
from tools.services.ports import LOOPBACK, wait_until

# Usually one or two. But a member that was killed a moment ago may take its time to store its vote,
# and each election whose votes are not in within a second fails: 87 s were seen.
ELECT_SECONDS = 180.0
# The time-out of heartbeats matters where a member freezes: an election waits for its word.
SETTINGS = {
    "electionTimeoutMillis": 1000,
    "heartbeatIntervalMillis": 500,
    "heartbeatTimeoutSecs": 1,
}


ADMINISTRATOR = "root"
"""Whoever runs a guarded server; the password is the same word."""


class Member(MongoNode):
    """One of several: ready when it answers, for the set is none of its business."""

    def _is_ready(self, client: "MongoClient[dict[str, Any]]") -> bool:
        return hello(client) is not None


class MongoSet(Entered):
    """Three members (or as many as `size` says) that elect a primary within a second or two.

    A member of `nodes` is killed, stopped, paused and started by its own methods. Where they are
    `guarded`, they ask who comes, and `url` is that of the administrator.
    """

    def __init__(self, folder: Path, *, size: int = 3, guarded: bool = False) -> None:
        flags = guards(folder) if guarded else ()
        self.nodes = [Member(folder / f"member{n}", flags=flags) for n in range(1, size + 1)]
        self.guarded = guarded

    @property
    def url(self) -> str:
        return self.url_of(self.nodes[0].user)

    def url_of(self, user: str) -> str:
        """The URL for a user, given as `name:password@`."""
        members = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"mongodb://{user}{members}/?replicaSet={self.nodes[0].replica_set}"

    def start(self) -> None:
        """Start what does not run, resume what is paused, and return when there is a primary, and
        all can take its place.

        Raises `ServiceUnavailable` where that takes too long.
        """
        for node in self.nodes:
            if node.running:
                node.resume()
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(Member.start, self.nodes))
        with directly(self.nodes[0], seconds=ELECT_SECONDS) as client:
            if "setName" not in (hello(client) or {}):
                self._initiate(client)
        if self.guarded and not self.nodes[0].user:
            self._let_in()
        if not wait_until(self._is_whole, ELECT_SECONDS):
            raise ServiceUnavailable(f"not all members joined in {ELECT_SECONDS:.0f} s: {self.url}")

    def close(self, *, remove: bool = False) -> None:
        for node in self.nodes:
            node.close(remove=remove)

    def primary(self) -> Member | None:
        """The member that takes writes just now; one that is paused says nothing."""
        for node in self.nodes:
            with directly(node) as client:
                if node.running and (hello(client) or {}).get("isWritablePrimary"):
                    return node
        return None

    def await_primary(self, other_than: Member | None = None) -> Member:
        """The primary, as soon as there is one. Raises `ServiceUnavailable` in the end."""
        deadline = time.monotonic() + ELECT_SECONDS
        while (found := self.primary()) is None or found is other_than:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"no primary within {ELECT_SECONDS:.0f} s: {self.url}")
            time.sleep(0.05)
        return found

    def await_writes(self, other_than: Member | None = None) -> Member:
        """The primary, as soon as a majority holds what it writes.

        That may be seconds after its election: until another member has noticed that the one it
        copied from is gone. Raises `ServiceUnavailable` in the end.
        """
        deadline = time.monotonic() + ELECT_SECONDS
        while not writes(found := self.await_primary(other_than), "majority"):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"no majority held a write within {ELECT_SECONDS:.0f} s: {self.url}"
                )
        return found

    def step_down(self) -> Member:
        """Make the primary give up its place for 3 s; returns which one it was."""
        before = self.await_primary()
        # It may close connections when it goes.
        with directly(before, seconds=10) as client, suppress(AutoReconnect):
            client.admin.command("replSetStepDown", 3, secondaryCatchUpPeriodSecs=2)
        return before

    def end(self) -> None:
        self.close(remove=True)

    def _is_whole(self) -> bool:
        """Whether each member holds what the primary writes now.

        What a member says of itself is not enough: one that was killed calls itself a secondary
        for a second before it finds that it must roll back, and does not count in elections then.
        """
        primary = self.primary()
        return primary is not None and writes(primary, len(self.nodes))

    def _let_in(self) -> None:
        """Makes the administrator, as whoever comes from this machine may while there is none."""
        with directly(self.await_primary(), seconds=ELECT_SECONDS) as client:
            make_administrator(client)
        for node in self.nodes:
            node.user = f"{ADMINISTRATOR}:{ADMINISTRATOR}@"

    def _initiate(self, client: "MongoClient[dict[str, Any]]") -> None:
        members = [
            {"_id": number, "host": f"{LOOPBACK}:{node.port}"}
            for number, node in enumerate(self.nodes)
        ]
        configuration = {
            "_id": self.nodes[0].replica_set,
            "members": members,
            "settings": SETTINGS,
        }
        client.admin.command("replSetInitiate", configuration)


def guards(folder: Path) -> Sequence[str]:
    """What has `mongod` ask who comes; members of a set know each other by a key in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key"
    key.write_text("k" * 64)
    key.chmod(0o400)
    return ["--auth", f"--keyFile={key}"]


def make_administrator(client: "MongoClient[dict[str, Any]]") -> None:
    client.admin.command("createUser", ADMINISTRATOR, pwd=ADMINISTRATOR, roles=["root"])


def hello(client: "MongoClient[dict[str, Any]]") -> dict[str, Any] | None:
    """What a member says of itself; None where it does not answer."""
    try:
        return client.admin.command("hello")
    except PyMongoError:
        return None


def writes(primary: Member, held_by: int | str) -> bool:
    """Whether so many members hold, within a second, what the primary writes now."""
    concern = {"w": held_by, "wtimeout": 1000}
    with directly(primary, seconds=5) as client, suppress(PyMongoError):
        client.admin.command("appendOplogNote", data={"is": "held"}, writeConcern=concern)
        return True
    return False


@contextmanager
def directly(node: MongoNode, seconds: float = 0.5) -> "Iterator[MongoClient[dict[str, Any]]]":
    """A client of this member alone, that waits for an answer so long."""
    milliseconds = int(seconds * 1000)
    with MongoClient[dict[str, Any]](
        node.direct_url,
        serverSelectionTimeoutMS=milliseconds,
        connectTimeoutMS=milliseconds,
        socketTimeoutMS=milliseconds,
    ) as client:
        yield client


@contextmanager
def failing(node: MongoNode, command: str, times: int, **fault: Any) -> Iterator[None]:
    """For the next commands of this name, the member does what `fault` says (a failpoint)."""

    def configure(mode: object, data: dict[str, Any]) -> None:
        with directly(node, seconds=10) as client:
            client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    configure({"times": times}, {"failCommands": [command], **fault})
    try:
        yield
    finally:
        configure("off", {})
