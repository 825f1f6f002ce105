"""Servers that do not serve: a port at which nobody listens, and so much of RabbitMQ and of MongoDB
as it takes to be refused by them. What is said in these is what the true ones say.
"""

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import bson
from pamqp import commands, frame

from bus.common import clock

LOOPBACK = "127.0.0.1"
Serves = Callable[[], AbstractContextManager[int]]
"""Serves at the port that it gives, while it is entered."""

QUERY, REPLY, MESSAGE = 2004, 1, 2013
"""Kinds of MongoDB's frames: the first question of a driver, its answer, and all others."""


@contextmanager
def nobody() -> Iterator[int]:
    """A port that is taken, and refuses whoever comes."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        yield taken.getsockname()[1]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is told nobody."""


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with _Server((LOOPBACK, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def rabbitmq(*, lets_in: bool) -> Serves:
    """Shakes hands, and refuses the password; or the virtual host, with `lets_in`."""

    class RabbitMQ(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.read(len(b"AMQP\0\0\x09\x01"))
            self.ask(commands.Connection.Start(mechanisms="PLAIN", server_properties={}))
            if not lets_in:
                mechanism = "Login was refused using authentication mechanism PLAIN"
                words = f"ACCESS_REFUSED - {mechanism}. For details see the broker logfile."
                self.ask(commands.Connection.Close(403, words, 0, 0))
                return
            self.ask(commands.Connection.Tune(2047, 131072, 60))
            if opening := self.answer():
                words = f"NOT_ALLOWED - vhost {opening.virtual_host} not found"
                self.ask(commands.Connection.Close(530, words, 10, 40))

        def ask(self, method: Any) -> None:
            self.wfile.write(frame.marshal(method, 0))
            self.answer()

        def answer(self) -> Any:
            """None where the client has hung up."""
            if head := self.rfile.read(7):
                (size,) = struct.unpack(">xxxI", head)
                return frame.unmarshal(head + self.rfile.read(size + 1))[2]
            return None

    return lambda: _serving(RabbitMQ)


def mongodb(**answers: Mapping[str, Any]) -> Serves:
    """A server that stands alone, and answers some commands so, by their names."""
    hello = {
        "ismaster": True,
        "isWritablePrimary": True,
        "maxBsonObjectSize": 16 * 1024 * 1024,
        "maxWireVersion": 17,
        "localTime": clock.now(),
        "logicalSessionTimeoutMinutes": 30,
    }

    class MongoDB(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(16):
                length, id, _, kind = struct.unpack("<iiii", head)
                body = self.rfile.read(length - 16)
                start = body.index(b"\0", 4) + 9 if kind == QUERY else 5
                name = next(iter(bson.decode(body[start:])))
                found = {"ok": 1, **answers.get(name, hello)}
                before = struct.pack("<iqii", 8, 0, 0, 1) if kind == QUERY else b"\0" * 5
                answer = before + bson.encode(found)
                told = REPLY if kind == QUERY else MESSAGE
                self.wfile.write(struct.pack("<iiii", 16 + len(answer), 0, id, told) + answer)

    return lambda: _serving(MongoDB)
