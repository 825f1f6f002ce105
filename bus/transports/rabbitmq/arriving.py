"""Puts deliveries together from the frames in which they arrive."""

from bus.transports.base import Frame
from bus.transports.rabbitmq import wire


class Arriving:
    """One delivery at a time: its method, its header, then its body in pieces."""

    def __init__(self) -> None:
        self.incoming = wire.Incoming(0, False, "", "")
        self._header = b""
        self._missing = 0
        self._pieces: list[bytes] = []

    def begin(self, data: bytes, start: int) -> None:
        """Takes the method's payload."""
        self.incoming = wire.deliver(data, start)

    def receive(self, kind: int, data: bytes, start: int, end: int) -> Frame | None:
        """Takes the payload of a header or body; returns the frame that is complete with it."""
        if kind == wire.HEADER:
            self._header = data[start:end]
            self._missing = wire.body_size(data, start)
            self._pieces = []
            return None if self._missing else self._complete(b"")
        piece = data[start:end]
        self._missing -= len(piece)
        if self._missing:
            self._pieces.append(piece)
            return None
        return self._complete(b"".join([*self._pieces, piece]) if self._pieces else piece)

    def _complete(self, body: bytes) -> Frame:
        return wire.content(self._header, 0, self.incoming, body)
