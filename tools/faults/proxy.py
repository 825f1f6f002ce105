"""A port of this machine that leads to a server, and through which the network can be broken."""

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tools.services.ports import LOOPBACK, free_ports, places

CHUNK = 65_536
NAME_WITHIN = 64  # a request to a database names its command in its first bytes
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Towards(Enum):
    """A direction on the wire."""

    SERVER = "server"
    CLIENT = "client"


class Proxy:
    """Passes on what comes, until told otherwise. `url` leads through it to the server of a URL.

    `mute` accepts new connections and never answers them; `delay` holds each chunk for so many
    seconds, and with `piece` each so many bytes of it. `cuts` counts the connections that were cut,
    `answers_lost` what came to be lost.
    """

    def __init__(self, server_url: str) -> None:
        self.server = places(server_url)[0]
        (self.port,) = free_ports(1)
        self.url = _through(server_url, self.port)
        self.mute = False
        self.delay = 0.0
        self.piece = 0
        self.cuts = 0
        self.answers_lost = 0
        self._left: int | None = None
        self._counted: Towards | None = None
        self._marker, self._losses, self._silently, self._passes_on = b"", 0, False, True
        self._listening: asyncio.Server | None = None
        self._open: dict[_Connection, asyncio.Task[None]] = {}

    @property
    def connections(self) -> int:
        """How many are open through it."""
        return len(self._open)

    # --- what breaks -------------------------------------------------------------------------

    def cut(self) -> int:
        """Reset every connection; returns how many."""
        return sum(connection.cut() for connection in list(self._open))

    def cut_after(self, count: int, towards: Towards | None = None) -> None:
        """Reset the one connection that carries the byte after the next `count`, exactly there."""
        self._left, self._counted = count, towards

    def half_open(self) -> int:
        """Pass nothing more on the connections there are, and leave their sockets open, for good.

        Connections made later are not concerned (`mute` is for them). Returns how many.
        """
        for connection in self._open:
            connection.dead = True
        return len(self._open)

    def lose_answers(self, marker: bytes, times: int, *, silently: bool = False) -> None:
        """The next requests that name `marker` are passed on, and their answers are lost.

        The connection is cut then; or it stays, `silently`, and answers no more.
        """
        self._marker, self._losses, self._silently = marker, times, silently
        self._passes_on = True

    def lose_requests(self, marker: bytes, times: int) -> None:
        """The next requests that name `marker` are not passed on, and their connections are cut."""
        self._marker, self._losses, self._passes_on = marker, times, False

    async def shut(self) -> None:
        """Refuse connections, and reset those there are."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()
        self.cut()
        if self._open:
            await asyncio.wait(self._open.values())

    async def open(self) -> None:
        """Accept connections (again), at the same port."""
        if self._listening is None:
            self._listening = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    # --- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.shut()

    # --- within ------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, (reader, writer), dead=self.mute)
        task = asyncio.create_task(connection.serve())
        self._open[connection] = task
        task.add_done_callback(lambda _: self._open.pop(connection))

    def ration(self, data: bytes, towards: Towards) -> bytes:
        """As much of `data` as may pass before the cut that was asked for."""
        if self._left is None or self._counted not in (None, towards):
            return data
        passing = data[: self._left]
        self._left = self._left - len(data) if len(data) <= self._left else None
        return passing

    def names_marker(self, data: bytes) -> bool:
        """Whether this is a request that is to be lost, or its answer."""
        if not self._losses or self._marker not in data[:NAME_WITHIN]:
            return False
        self._losses -= 1
        return True

    @property
    def passes_on(self) -> bool:
        """Whether what is lost is the answer to a request, and not the request."""
        return self._passes_on

    @property
    def loses_silently(self) -> bool:
        return self._silently


class _Connection:
    """A client's connection to the proxy, and the proxy's to the server."""

    def __init__(self, proxy: Proxy, client: Stream, *, dead: bool) -> None:
        self.dead = dead
        self._proxy = proxy
        self._client = client
        self._writers = [client[1]]
        self._answer_is_lost = False
        self._is_cut = asyncio.Event()

    async def serve(self) -> None:
        try:
            with suppress(OSError):
                await self._serve()
        finally:
            for writer in self._writers:
                writer.transport.abort()

    def cut(self) -> bool:
        """Reset both ends; False where that was done before."""
        if self._is_cut.is_set():
            return False
        cuts = not self._client[1].transport.is_closing()
        for writer in self._writers:
            _reset(writer)
        self._is_cut.set()
        self._proxy.cuts += cuts
        return cuts

    async def _serve(self) -> None:
        reader, writer = self._client
        if self.dead:
            while await reader.read(CHUNK):
                pass
            return
        from_server, to_server = await asyncio.open_connection(*self._proxy.server)
        self._writers.append(to_server)
        if writer.transport.is_closing():  # cut meanwhile
            return
        pumps = {
            asyncio.create_task(self._pump(reader, to_server, Towards.SERVER)),
            asyncio.create_task(self._pump(from_server, writer, Towards.CLIENT)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, towards: Towards
    ) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                if self._proxy.delay:
                    await asyncio.sleep(self._proxy.delay)
                if not self._passes(data, towards):
                    continue
                passing = self._proxy.ration(data, towards)
                await self._write(passing, target)
                if len(passing) < len(data):
                    self.cut()
                    return
                await target.drain()
            await self._finish(target)

    async def _write(self, data: bytes, target: asyncio.StreamWriter) -> None:
        while (piece := self._proxy.piece) and len(data) > piece and not self.dead:
            target.write(data[:piece])
            data = data[piece:]
            await asyncio.sleep(self._proxy.delay)
        target.write(data)

    def _passes(self, data: bytes, towards: Towards) -> bool:
        if towards is Towards.SERVER:
            if self._proxy.names_marker(data):
                self._lose()
        elif self._answer_is_lost:
            self._lose_answer()
        return not self.dead and not self._client[1].transport.is_closing()

    def _lose(self) -> None:
        if self._proxy.passes_on:
            self._answer_is_lost = True
        else:
            self.cut()

    def _lose_answer(self) -> None:
        self._proxy.answers_lost += 1
        if self._proxy.loses_silently:
            self.dead = True
        else:
            self.cut()

    async def _finish(self, target: asyncio.StreamWriter) -> None:
        """The source ended: so does the target, with what was written; a dead one just stays."""
        if self.dead:
            await self._is_cut.wait()
        target.close()
        await target.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    held: socket.socket | None = writer.get_extra_info("socket")
    if held is not None:
        with suppress(OSError):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


def _through(url: str, port: int) -> str:
    """The URL with our place in it; a driver of MongoDB's would go on to the members itself."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    query = "directConnection=true" if parts.scheme == "mongodb" else parts.query
    return urlunsplit(parts._replace(netloc=f"{user}{at}{LOOPBACK}:{port}", query=query))
