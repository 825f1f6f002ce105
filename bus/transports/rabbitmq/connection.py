"""Connecting and staying connected: each await bounded, each loss noticed, each task owned."""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import aio_pika
from aiormq.abc import AbstractChannel, AbstractConnection
from yarl import URL

from bus.common.backoff import Backoff
from bus.common.tasks import end
from bus.common.urls import AMQP_SCHEMES, problem_of
from bus.errors import ConfigurationError, TransportUnavailable
from bus.observe.log import Logger
from bus.observe.loops import Loops
from bus.observe.signals import Connected, Disconnected
from bus.transports.rabbitmq.frame_reader import FrameReader, FrameReaderFactory
from bus.transports.rabbitmq.refusals import reason_of

log = Logger("bus.rabbitmq")
T = TypeVar("T")

_CLOSE_TIMEOUT = 3.0
_LISTEN_EVERY = 0.5


def checked_urls(urls: Sequence[str], heartbeat: int) -> list[URL]:
    """Returns the brokers' addresses, with this heartbeat. Raises: ConfigurationError."""
    if not urls:
        raise ConfigurationError("RabbitMQ: no URL given. Give at least one, amqp://host:port/")
    return [_checked(url).update_query(heartbeat=heartbeat) for url in urls]


def _checked(text: str) -> URL:
    if problem := problem_of(text, AMQP_SCHEMES):
        raise ConfigurationError(f"RabbitMQ: the URL {problem}")
    try:
        url = URL(text)
    except ValueError:
        raise ConfigurationError("RabbitMQ: a URL cannot be read (amqp://host:port/)") from None
    if not url.host:
        raise ConfigurationError("RabbitMQ: a URL names no host: write amqp://host:port/")
    return url


def check_files(urls: Sequence[URL]) -> None:
    """Checks that the certificates named by the URLs can be read. Raises: ConfigurationError."""
    for url in urls:
        for option in ("cafile", "capath", "certfile", "keyfile"):
            path = url.query.get(option)
            if path and not os.access(path, os.R_OK):
                raise ConfigurationError(
                    f"RabbitMQ at {place(url)}: {option}={path} cannot be read; correct the path "
                    f"in the URL, or its permissions"
                )


def place(url: URL) -> str:
    """Returns a broker's host and port, without credentials."""
    return f"{url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"


async def genuine(awaitable: Awaitable[T]) -> T:
    """Awaits, and turns a CancelledError that nobody asked for into a ConnectionError.

    The library cancels its futures when a connection is lost; taken for a genuine cancellation,
    that would end the task that should reconnect.
    """
    try:
        return await awaitable
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the connection was lost meanwhile") from None


class RabbitSession:
    """One live connection, from its handshake until it is lost."""

    def __init__(
        self, connection: aio_pika.Connection, reader: FrameReader, writer: asyncio.StreamWriter
    ) -> None:
        assert connection.transport is not None
        self.connection = connection
        self.amqp: AbstractConnection = connection.transport.connection
        # Read once: each access makes a future that the connection keeps for its whole life.
        self.closing: asyncio.Future[Any] = self.amqp.closing
        self.since = time.monotonic()
        self.reader = reader
        self.writer = writer

    @property
    def alive(self) -> bool:
        return not self.writer.is_closing() and self.amqp.is_opened

    @property
    def silent(self) -> bool:
        """Whether nothing came for two heartbeats: by AMQP's rule, the peer is gone."""
        heartbeat = self.amqp.connection_tune.heartbeat or math.inf
        return time.monotonic() - self.reader.heard_at > 2 * heartbeat

    @property
    def server(self) -> str:
        properties = self.amqp.server_properties
        return f"{properties.get('product')!s} {properties.get('version')!s}"

    async def channel(self, *, confirms: bool) -> AbstractChannel:
        return await genuine(self.amqp.channel(publisher_confirms=confirms))

    async def close(self) -> None:
        try:
            await finish(self.connection.close(), _CLOSE_TIMEOUT)
        finally:
            self.writer.transport.abort()


async def connect(url: URL, timeout: float) -> RabbitSession:
    """Tries once to connect. Raises: TransportUnavailable."""
    factory = FrameReaderFactory()
    connection = aio_pika.Connection(url)
    connection.kwargs["transport_factory"] = factory
    try:
        async with asyncio.timeout(timeout):
            await genuine(connection.connect())
    except BaseException as error:
        if factory.writer is not None:
            factory.writer.transport.abort()
        await connection.close()
        if not isinstance(error, Exception):
            raise
        raise TransportUnavailable(
            f"RabbitMQ at {place(url)}: {reason_of(url.scheme, error)}"
        ) from None
    assert factory.writer is not None
    return RabbitSession(connection, factory.reader, factory.writer)


async def connect_any(urls: Sequence[URL], timeout: float) -> RabbitSession:
    """Connects to the first broker that answers. Raises: TransportUnavailable, of the last one."""
    problem = TransportUnavailable("RabbitMQ: no URL")
    for url in urls:
        try:
            return await connect(url, timeout)
        except TransportUnavailable as error:
            problem = error
    raise problem


class Link:
    """Keeps one connection: opens it, and opens another whenever it was lost."""

    def __init__(
        self, urls: Sequence[URL], purpose: str, connect_timeout: float, loops: Loops
    ) -> None:
        self._urls = urls
        self._purpose = purpose
        self.loops = loops
        self._connect_timeout = connect_timeout
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.session: RabbitSession | None = None
        self.problem = TransportUnavailable("RabbitMQ: not connected")

    def start(self) -> None:
        if self._task is None:
            self._task = self.loops.start(self._keep, f"connection for {self._purpose}")

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await stop(task)

    async def connected(self) -> RabbitSession:
        """Waits for a live connection."""
        while self.session is None or not self.session.alive:
            self._connected.clear()
            await self._connected.wait()
        return self.session

    async def _keep(self) -> None:
        backoff = Backoff()
        is_logged = False
        while True:
            try:
                session = await connect_any(self._urls, self._connect_timeout)
            except TransportUnavailable as problem:
                self.problem = problem
                if not is_logged:  # once for each outage
                    log.warning("rabbitmq_away", purpose=self._purpose, problem=str(problem))
                is_logged = True
            else:
                is_logged = False
                backoff.reset()
                await self._hold(session)
            await backoff.wait()

    async def _hold(self, session: RabbitSession) -> None:
        began = time.monotonic()
        self.loops.signals.emit(Connected, self._purpose, session.server)
        self.session = session
        self._connected.set()
        try:
            await _until_lost(session)
            seconds, why = time.monotonic() - began, _why_lost(session)
            self.loops.signals.emit(Disconnected, self._purpose, seconds, why)
        finally:
            self.session = None
            self.problem = TransportUnavailable("RabbitMQ: the connection was lost")
            await session.close()


async def _until_lost(session: RabbitSession) -> None:
    """Waits until the session is closed or silent.

    The library alone waits for longer than two heartbeats, and then for a reply to its close.
    """
    while not session.closing.done():
        await asyncio.wait([session.closing], timeout=_LISTEN_EVERY)
        if session.silent:
            session.writer.transport.abort()
            return


def _why_lost(session: RabbitSession) -> str:
    """Returns what the broker, or the operating system, said as the connection was lost."""
    closing = session.closing
    if not closing.done():
        return "nothing was heard from the broker for two heartbeats"
    error = None if closing.cancelled() else closing.exception()
    return str(error or "")[:500]


async def attend(
    link: Link, purpose: str, use: Callable[[RabbitSession, Backoff], Awaitable[None]]
) -> None:
    """Runs `use` on each connection in turn, for ever; `use` returns when its channel is lost."""
    await link.loops.keep(lambda: _attend(link, purpose, use), f"channel for {purpose}")


async def _attend(
    link: Link, purpose: str, use: Callable[[RabbitSession, Backoff], Awaitable[None]]
) -> None:
    backoff = Backoff()
    logged = ""
    while True:
        session = await link.connected()
        try:
            await genuine(use(session, backoff))
            logged = ""
        except Exception as error:
            kind, why = type(error).__name__, str(error)
            if f"{kind} {why}" != logged:  # once, however often it is tried
                log.warning("rabbitmq_retry", purpose=purpose, error=kind, why=why)
            logged = f"{kind} {why}"
        await backoff.wait()


async def finish(closing: Coroutine[Any, Any, Any], seconds: float) -> None:
    """Lets the library close something, for at most so many seconds; errors are ignored."""
    task = asyncio.create_task(closing)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        await stop(task, patience=0.1)


async def stop(task: "asyncio.Task[Any]", *, patience: float = 2 * _CLOSE_TIMEOUT) -> None:
    """Ends a task of ours, and logs what it raised: an error of the library's, as a rule."""
    await end([task], patience=patience)
    if not task.cancelled() and (error := task.exception()):
        log.debug("rabbitmq_stopped", task=task.get_name(), error=type(error).__name__)
