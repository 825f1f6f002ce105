"""The load: commands at a steady rate through the API, and one who watches the list of jobs."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tools.demo.http import Connection, Response

AUTHORS = 32
REVISIONS = 7
JOBS, APPLICATIONS = "/api/v1/jobs", "/api/v1/applications"
TRY_AGAIN_AFTER = 0.5
TEXT = {"title": "Baker, early shift", "description": "Bread and rolls " * 12}


class _Over(Exception):
    """The time is up."""


class Load:
    """So many commands a second, from authors who each do one thing after the other.

    An author posts a job, revises it, has somebody apply, archives it, and begins again.
    """

    def __init__(self, url: str, rate: float) -> None:
        self._url = url
        self._each = AUTHORS / rate
        self.taken = 0
        self.failed: Counter[str] = Counter()
        self.slowest = 0.0

    async def run(self, seconds: float) -> None:
        """Returns when the time is up; what was sent is answered by then."""
        ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(AUTHORS):
                author = Author(self._url, self._each, ends, number / AUTHORS)
                group.create_task(self._play(author))

    async def _play(self, author: "Author") -> None:
        try:
            while True:
                try:
                    await author.play()
                except OSError as error:
                    self.failed[str(error)[:200]] += 1
                    await asyncio.sleep(TRY_AGAIN_AFTER)
        except _Over:
            pass
        finally:
            author.close()
            self.taken += author.taken
            self.slowest = max(self.slowest, author.slowest)


class Author:
    """One of them, with a connection of its own and a place in the beat."""

    def __init__(self, url: str, each: float, ends: float, offset: float) -> None:
        self._connection = Connection(url)
        self._each = each
        self._ends = ends
        self._due = time.monotonic() + offset * each
        self.taken = 0
        self.slowest = 0.0

    def close(self) -> None:
        self._connection.close()

    async def play(self) -> None:
        """The life of one job. Raises: _Over, OSError (not taken)."""
        posted = await self._command("POST", JOBS, TEXT)
        job = posted.json()["id"]
        for version in range(1, REVISIONS + 1):
            revised = await self._command("PUT", f"{JOBS}/{job}", {**TEXT, "version": version})
        letter = {"job_id": job, "applicant": f"Ada {self.taken % 1000}", "letter": "I bake."}
        after = {"Bus-Receipt": revised.headers["bus-receipt"]}
        await self._command("POST", APPLICATIONS, letter, after)
        await self._command("PUT", f"{JOBS}/{job}/archive")

    async def _command(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Response:
        await asyncio.sleep(max(0.0, self._due - time.monotonic()))
        began = time.monotonic()
        if began > self._ends:
            raise _Over
        self._due = max(self._due + self._each, began - 1)  # what is very late is not made up for
        headers = {"Idempotency-Key": uuid.uuid4().hex, **(more or {})}
        response = await self._connection.request(method, path, body=body, headers=headers)
        self.slowest = max(self.slowest, time.monotonic() - began)
        if response.status >= 400:
            raise OSError(f"{method} answered {response.status}: {response.body[:150]!r}")
        self.taken += 1
        return response


async def watch(url: str) -> None:
    """Stays on the live list of jobs, and counts nothing: the API has a watcher by it."""
    place = urlsplit(url)
    while True:
        try:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                request = f"GET {JOBS}/live HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n"
                writer.write(request.encode())
                while await reader.read(64 * 1024):
                    pass
            finally:
                writer.close()
        except OSError:
            pass
        await asyncio.sleep(TRY_AGAIN_AFTER)
