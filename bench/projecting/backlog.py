"""A backlog: commits in the log, and in the queues the frames that the bus publishes of them.

The events of all streams are mixed, those of each stream are in order: nothing is to be healed.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from bench.projecting.service import NOTE, Deposited
from bench.side import Arguments
from bus import Bus
from bus.codec import event_frames, record
from bus.common import clock
from bus.stores.event_log import Commit
from bus.stores.records import commit_document, encoded
from bus.transports.topology import slot_of

STREAMS_OF_AN_OWNER = 4
CHUNK = 1000


class Backlog:
    """`count` events of `streams` streams, equally many each; the same ones every time. Of fewer
    events than streams, each is the first and only one of its stream.

    Raises: SystemExit if there are too few events for one document.
    """

    def __init__(self, arguments: Arguments) -> None:
        self.kind: str = arguments["kind"]
        self._streams = _whole_owners(min(arguments["streams"], arguments["count"]))
        self._each: int = arguments["count"] // self._streams
        self.count: int = self._streams * self._each
        self._order = list(range(self._streams)) * self._each
        random.Random(self.count).shuffle(self._order)

    @property
    def documents(self) -> int:
        return self._streams // (1 if self.kind == "documents" else STREAMS_OF_AN_OWNER)

    @property
    def of_a_document(self) -> int:
        """The field `events` of every document, in the end."""
        return self.count // self.documents

    def last_of(self, partition: int, partitions: int) -> str:
        """The document that the last event of a partition's queue changes."""
        of_it = (
            stream
            for stream in reversed(self._order)
            if slot_of(f"account-a{stream}") % partitions == partition
        )
        if (last := next(of_it, None)) is None:
            raise SystemExit(f"--count: no stream of {self._streams} is in partition {partition}")
        return f"a{last}" if self.kind == "documents" else _owner(last)

    def commits(self) -> Iterator[Commit]:
        """In the order of the queue; of an hour ago."""
        versions = [0] * self._streams
        time = clock.now() - timedelta(hours=1)
        for number, stream in enumerate(self._order):
            versions[stream] += 1
            yield _commit(number, stream, versions[stream], time)


def _commit(number: int, stream: int, version: int, time: Any) -> Commit:
    event = Deposited(account_id=f"a{stream}", owner=_owner(stream), number=version, note=NOTE)
    return Commit(
        id=f"{number:032x}",
        stream=f"account-a{stream}",
        category="account",
        first=version,
        events=(record(event),),
        time=time,
        correlation_id=f"{number:032x}",
        causation_id=f"{number:032x}",
        message="Deposit",
    )


def _whole_owners(streams: int) -> int:
    """Returns how many of these streams make whole documents. Raises: SystemExit if none do."""
    if streams < STREAMS_OF_AN_OWNER:
        raise SystemExit(f"--count: give {STREAMS_OF_AN_OWNER} events at least, one for a stream")
    return streams // STREAMS_OF_AN_OWNER * STREAMS_OF_AN_OWNER


def _owner(stream: int) -> str:
    return f"o{stream // STREAMS_OF_AN_OWNER}"


async def fill(bus: Bus, backlog: Backlog) -> None:
    """Publishes the backlog, and stores it as published. Ends when the servers are at rest."""
    commits, sign = backlog.commits(), bus.runtime.signing.sign
    async with AsyncMongoClient[dict[str, Any]](os.environ["BUS_MONGO_URL"]) as client:
        log = client[bus.service]["commits"]
        while chunk := list(islice(commits, CHUNK)):
            frames = [frame for commit in chunk for frame in event_frames(commit, sign)]
            failures, _ = await asyncio.gather(
                bus.runtime.transport.publish(frames, timeout=60),
                log.insert_many([stored(commit) for commit in chunk], ordered=False),
            )
            for failure in failures.values():
                raise failure
        await client.admin.command("fsync")


def stored(commit: Commit) -> RawBSONDocument:
    """The commit as it stands in the log, published."""
    document = commit_document(commit)
    del document["pending"]
    return RawBSONDocument(encoded(document))
