"""Servers that are started once somebody asks for them, by the process that started the others.

They cost seconds and memory that few runs of tests need. Whoever asks is another process, or
several: each server is started once, and ends with the one that started it, however that ends.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from socketserver import StreamRequestHandler, ThreadingTCPServer

from tools.services.entered import Entered
from tools.services.errors import ServiceError
from tools.services.ports import LOOPBACK
from tools.services.progress import say

ADDRESS = "DOUBLEDECKER_SERVERS"
"""The variable that tells where to ask."""


@dataclass(frozen=True)
class Answer:
    """Where a server is, or why there is none."""

    url: str = ""
    why_missing: str = ""


def ask(name: str) -> Answer:
    """Have a server started, and wait until clients can work; empty where nobody can be asked."""
    if not os.environ.get(ADDRESS):
        return Answer()
    with _asking(name) as connection, connection.makefile() as answer:
        return Answer(**json.loads(answer.read()))


def wake(name: str) -> None:
    """Have a server started, without waiting for it."""
    if os.environ.get(ADDRESS):
        _asking(name).close()


class Starter(Entered):
    """Starts servers for those who ask at `address`, each once; `start` returns a server's URL."""

    def __init__(self, names: Iterable[str], start: Callable[[str], str]) -> None:
        self._start = start
        self._guards = {name: threading.Lock() for name in names}
        self._answers: dict[str, Answer] = {}
        self._server = _Server(self.answer)
        self._ended = False

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._server.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def end(self) -> None:
        self._ended = True
        self._server.shutdown()
        self._server.server_close()

    def answer(self, name: str) -> Answer:
        """Start the server if nobody has asked before; whoever asks meanwhile waits."""
        if name not in self._guards:
            return Answer()
        with self._guards[name]:
            if name not in self._answers:
                self._answers[name] = self._first_answer(name)
            return self._answers[name]

    def _first_answer(self, name: str) -> Answer:
        try:
            return Answer(url=self._start(name))
        except ServiceError as error:
            if not self._ended:  # else it was ended while it started
                say(str(error))
            return Answer(why_missing=str(error))


class _Server(ThreadingTCPServer):
    # What still starts when a run ends must not hold it up.
    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.answer = answer


class _Handler(StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        answer = self.server.answer(self.rfile.readline().decode().strip())
        try:
            self.wfile.write(json.dumps(asdict(answer)).encode())
        except OSError:  # who asked did not wait
            return


def _asking(name: str) -> socket.socket:
    host, _, port = os.environ[ADDRESS].rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"{name}\n".encode())
    return connection
