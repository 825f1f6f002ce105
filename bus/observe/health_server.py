"""Answers /livez and /readyz over HTTP, and further pages, from the event loop that does the work.

This is on purpose: a starved loop, or a frozen process, does not answer.
"""

import asyncio
import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress

from bus.common.tasks import end
from bus.errors import ConfigurationError
from bus.observe.health import Checkup, Health
from bus.observe.listeners import NoPage, Page
from bus.observe.log import Logger

WITHIN = 5.0
LONGEST_HEAD = 8 * 1024
TRY_EVERY = 3.0
"""Seconds until a port that another process has is tried again."""
REASONS = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""With this variable set, the processes of one machine share what they count, and any of them
answers for all: the first one takes the port, and another one once that has ended."""
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

log = Logger("bus.health")


class HealthServer:
    """A server of two pages: GET (or HEAD) answers 200 or 503, and the report as JSON.

    `pages` are others, by path. They may come later.
    """

    def __init__(
        self, checkup: Checkup, host: str, port: int, *, pages: Mapping[str, Page] | None = None
    ) -> None:
        self._checkup = checkup
        self._pages = {} if pages is None else pages
        self._failed: set[str] = set()
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts to answer. Raises: ConfigurationError if the address is not to be had."""
        try:
            await self._listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                if os.environ.get(SHARED):
                    log.info("health_port_taken", host=self._host, port=self._port)
                    self._waiting = asyncio.create_task(self._take_over())
                    return
                raise ConfigurationError(
                    f"cannot answer at {self._host}:{self._port}: something listens there, another "
                    f"worker, a relay or another program; give each process a BUS_HEALTH_PORT of "
                    f"its own (workers of one process, by Settings(health_port=...)), or 0"
                ) from None
            raise ConfigurationError(
                f"cannot answer at {self._host}:{self._port}: {_why(error)}; set BUS_HEALTH_HOST "
                f"to an address of this machine and BUS_HEALTH_PORT to a port that this user may "
                f"take, or to 0"
            ) from None

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, limit=LONGEST_HEAD
        )

    async def _take_over(self) -> None:
        """Takes the port once the process that has it has ended."""
        while self._server is None:
            await asyncio.sleep(TRY_EVERY)
            with suppress(OSError):
                await self._listen()

    async def close(self) -> None:
        await end([self._waiting] if self._waiting else [])
        if self._server is None:
            return
        self._server.close()
        await end(self._tasks)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            with suppress(OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
                async with asyncio.timeout(WITHIN):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head))
                    await writer.drain()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        if method not in (b"GET", b"HEAD"):
            return _response(405, b"")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        head_only = method == b"HEAD"
        match path:
            case "/livez":
                report = await self._checkup.alive()
                status, body = _status(report.alive), _without_ready(report)
            case "/readyz":
                report = await self._checkup.health()
                status, body = _status(report.ready), json.dumps(report.as_json())
            case _:
                return await self._page(path, _header(head, b"accept"), head_only=head_only)
        return _response(status, body.encode(), head_only=head_only)

    async def _page(self, path: str, accept: str, *, head_only: bool) -> bytes:
        page = self._pages.get(path)
        if page is None:
            return _response(404, b"")
        try:
            content, body = await page(accept)
        except NoPage as why:
            return _response(404, f"{why}\n".encode(), content=TEXT, head_only=head_only)
        except Exception as error:
            if path not in self._failed:
                self._failed.add(path)
                log.error("page_failed", page=path, exc_info=error)
            return _response(500, b"")
        self._failed.discard(path)
        return _response(200, body, content=content, head_only=head_only)


def _why(error: OSError) -> str:
    """Returns the system's own words, because asyncio's repeat the address. The error of an unknown
    host name has a number below 0, and words of its own."""
    own = (error.errno or 0) > 0
    return os.strerror(error.errno or 0) if own else str(error.strerror or error)


def _status(good: bool) -> int:
    return 200 if good else 503


def _without_ready(report: Health) -> str:
    """Returns the report for /livez, which has not asked the parts that readiness depends on."""
    body = report.as_json()
    del body["ready"]
    return json.dumps(body)


def _header(head: bytes, name: bytes) -> str:
    """Returns a request's header; "" if it has none of that name."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip().decode("latin-1")
    return ""


def _response(status: int, body: bytes, *, content: str = JSON, head_only: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {content}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)
