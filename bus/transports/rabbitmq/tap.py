"""Takes the frames of the hot path out of a connection's stream, before the library parses them.

The library asks a factory for its reader and writer. Ours reads like any other, but hands the
frames of chosen channels to their sink, in place: no object, queue or task for each frame.
"""

import asyncio
import struct
import time
from typing import Any, Protocol

from aiormq import SSLContextProvider, TransportFactory
from yarl import URL

from bus.transports.rabbitmq import wire

_FRAME = struct.Struct(">BHI")
_KINDS = frozenset((wire.METHOD, wire.HEADER, wire.BODY, wire.HEARTBEAT[0]))
_LONGEST = 16 * 1024 * 1024
_BEAT_EVERY = 1.0


class Sink(Protocol):
    """Takes the frames of one channel."""

    def receive(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Takes the frame whose payload is data[start:end]; False leaves it to the library."""
        ...


class Tap(asyncio.StreamReader):
    """A stream in which some frames never arrive: their channel's sink has taken them."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: dict[int, Sink] = {0: self}
        self.blocked = False
        self._rest = b""
        self._last_beat = 0.0
        self.heard_at = time.monotonic()

    def feed_data(self, data: Any) -> None:
        # An error here ends the connection, by asyncio's doing.
        self.heard_at = time.monotonic()
        if self._rest:
            data = self._rest + data
        at, size, left = 0, len(data), []
        while size - at >= 8:
            kind, channel, length = _FRAME.unpack_from(data, at)
            end = at + 8 + length
            if kind not in _KINDS or length > _LONGEST:
                raise ConnectionError("RabbitMQ: what arrives is not AMQP")
            if end > size:
                break
            sink = self.sinks.get(channel)
            if sink is None or not sink.receive(kind, data, at + 7, end - 1):
                left.append(data[at:end])
            at = end
        self._rest = data[at:]
        if left:
            super().feed_data(b"".join(left))
        elif at:
            self._beat()

    def feed_eof(self) -> None:
        if self._rest:
            super().feed_data(self._rest)
            self._rest = b""
        super().feed_eof()

    def receive(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """As the sink of the connection's own channel: learns of alarms, and takes nothing."""
        if kind == wire.METHOD:
            method = wire.method(data, start)
            self.blocked = method == wire.BLOCKED or (self.blocked and method != wire.UNBLOCKED)
        return False

    def _beat(self) -> None:
        # The library calls a peer dead of which it sees no frame, and a busy broker sends no
        # heartbeats: tell it that there was something.
        now = asyncio.get_running_loop().time()
        if now - self._last_beat > _BEAT_EVERY:
            self._last_beat = now
            super().feed_data(wire.HEARTBEAT)


class TapFactory(TransportFactory):
    """Opens one connection's socket and keeps both ends of it."""

    def __init__(self) -> None:
        self.tap = Tap()
        self.writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        provider: SSLContextProvider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        protocol = asyncio.StreamReaderProtocol(self.tap, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, str(url.host), url.port or 0, ssl=context, **kwargs
        )
        self.writer = asyncio.StreamWriter(transport, protocol, self.tap, loop)
        return self.tap, self.writer
