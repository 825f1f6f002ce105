"""Takes the frames of the hot path out of a connection's stream, before the library parses them.

The library asks a factory for its reader and writer. This reader reads like any other, but hands
the frames of chosen channels to their handlers directly: no object, queue or task for each frame.
"""

import asyncio
import struct
import time
from typing import Any, Protocol

from aiormq import SSLContextProvider, TransportFactory
from yarl import URL

from bus.transports.base import Frame
from bus.transports.rabbitmq import frames

_FRAME = struct.Struct(">BHI")
_KINDS = frozenset((frames.METHOD, frames.HEADER, frames.BODY, frames.HEARTBEAT[0]))
_LONGEST = 16 * 1024 * 1024
_BEAT_EVERY = 1.0


class FrameHandler(Protocol):
    """Takes the frames of one channel."""

    def receive(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Takes the frame whose payload is data[start:end]; False leaves it to the library."""
        ...


class FrameReader(asyncio.StreamReader):
    """A stream without the frames that a channel's handler has taken."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, FrameHandler] = {0: self}
        self.blocked = False
        self._rest = b""
        self._last_beat = 0.0
        self.heard_at = time.monotonic()

    def feed_data(self, data: Any) -> None:
        # An error raised here makes asyncio end the connection.
        self.heard_at = time.monotonic()
        if self._rest:
            data = self._rest + data
        at, size, left = 0, len(data), []
        while size - at >= 8:
            kind, channel, length = _FRAME.unpack_from(data, at)
            end = at + 8 + length
            if kind not in _KINDS or length > _LONGEST:
                # Without this, bytes that are not AMQP would be kept as the rest of a long frame.
                raise ConnectionError("RabbitMQ: what arrives is not AMQP")
            if end > size:
                break
            handler = self.handlers.get(channel)
            if handler is None or not handler.receive(kind, data, at + 7, end - 1):
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
        """Handles channel 0, the connection's own: notes alarms, and takes no frame."""
        if kind == frames.METHOD:
            method = frames.method(data, start)
            self.blocked = method == frames.BLOCKED or (self.blocked and method != frames.UNBLOCKED)
        return False

    def _beat(self) -> None:
        # The library takes a peer for dead if it sees no frame from it, and a busy broker sends no
        # heartbeats. Without this one, taking every frame would end a busy connection.
        now = asyncio.get_running_loop().time()
        if now - self._last_beat > _BEAT_EVERY:
            self._last_beat = now
            super().feed_data(frames.HEARTBEAT)


class FrameReaderFactory(TransportFactory):
    """Opens one connection's socket and keeps both ends of it."""

    def __init__(self) -> None:
        self.reader = FrameReader()
        self.writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        provider: SSLContextProvider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, str(url.host), url.port or 0, ssl=context, **kwargs
        )
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        return self.reader, self.writer


class DeliveryReader:
    """Assembles one delivery at a time: its method, its header, then its body in pieces."""

    def __init__(self) -> None:
        self.incoming = frames.Incoming(0, False, "", "")
        self._header = b""
        self._missing = 0
        self._pieces: list[bytes] = []

    def begin(self, data: bytes, start: int) -> None:
        """Takes the method's payload."""
        self.incoming = frames.deliver(data, start)

    def receive(self, kind: int, data: bytes, start: int, end: int) -> Frame | None:
        """Takes the payload of a header or body; returns the frame that is complete with it."""
        if kind == frames.HEADER:
            self._header = data[start:end]
            self._missing = frames.body_size(data, start)
            self._pieces = []
            return None if self._missing else self._complete(b"")
        piece = data[start:end]
        self._missing -= len(piece)
        if self._missing:
            self._pieces.append(piece)
            return None
        return self._complete(b"".join([*self._pieces, piece]) if self._pieces else piece)

    def _complete(self, body: bytes) -> Frame:
        return frames.content(self._header, 0, self.incoming, body)
