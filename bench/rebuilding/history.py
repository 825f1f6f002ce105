"""The history: what the bus would have stored of a backlog's commits, all of it published."""

import os
from itertools import islice
from typing import Any

from pymongo import AsyncMongoClient

from bench.projecting.backlog import CHUNK, Backlog, stored
from bench.projecting.service import build
from bench.side import Arguments


async def stored_history(arguments: Arguments) -> Backlog:
    """Fills a log with its indexes; ends when the database is at rest."""
    backlog = Backlog(arguments)
    service = arguments["service"]
    async with build({**arguments, "partitions": 1, "without_views": True}):
        pass  # makes the log's indexes
    commits = backlog.commits()
    async with AsyncMongoClient[dict[str, Any]](os.environ["BUS_MONGO_URL"]) as client:
        log = client[service]["commits"]
        while chunk := [stored(commit) for commit in islice(commits, CHUNK)]:
            await log.insert_many(chunk, ordered=False)
        await client.admin.command("fsync")
    return backlog
