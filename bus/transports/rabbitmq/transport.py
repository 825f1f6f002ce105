"""The transport as a whole: two connections, what is declared, who consumes."""

import asyncio
import re
from collections.abc import Collection, Sequence

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from bus.common.tasks import apart
from bus.errors import TransportUnavailable
from bus.observe.loops import Loops
from bus.transports.base import LADDER, Frame, Transport
from bus.transports.rabbitmq.connection import (
    Link,
    RabbitSession,
    check_files,
    checked_urls,
    place,
    stop,
)
from bus.transports.rabbitmq.declare import count
from bus.transports.rabbitmq.declaring import Declaring
from bus.transports.rabbitmq.inbox import RabbitInbox
from bus.transports.rabbitmq.publisher import RabbitPublisher
from bus.transports.topology import Topology

_COUNT_TIMEOUT = 5.0
_DELAYS_ITSELF = (4, 3)
"""The first release of RabbitMQ that has queues delay what was returned to them."""


class RabbitTransport(Transport):
    """RabbitMQ, for one service.

    `urls` are tried in turn. A silent broker is noticed after two to three times `heartbeat`
    (seconds). `connect_timeout` (seconds) bounds each attempt at each URL. Without `makes` it
    declares nothing, and says what is missing.
    Raises: ConfigurationError for a URL that cannot be used or turns TLS checks off.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        service: str,
        heartbeat: int = 7,
        connect_timeout: float = 5.0,
        makes: bool = True,
        loops: Loops | None = None,
    ) -> None:
        self._urls = checked_urls(urls, heartbeat)
        self._connect_timeout = connect_timeout
        loops = loops or Loops()
        self._publishing = Link(self._urls, "publishing", connect_timeout, loops)
        self._consuming = Link(self._urls, "consuming", connect_timeout, loops)
        self._declaring = Declaring(
            self._urls, connect_timeout, makes=makes, remade=self._consume_anew
        )
        self._publisher = RabbitPublisher(self._publishing, service, self._declaring)
        self._inboxes: list[RabbitInbox] = []
        self._counting: dict[str, asyncio.Task[tuple[int, int]]] = {}
        self._server = "RabbitMQ"
        self._open = False

    async def open(self) -> None:
        check_files(self._urls)
        self._open = True
        self._publishing.start()
        self._consuming.start()
        self._publisher.start()
        try:
            async with asyncio.timeout(self._connect_timeout * len(self._urls)):
                await self._publisher.ready()
                session = await self._consuming.connected()
        except TimeoutError:
            places = ", ".join(place(url) for url in self._urls)
            raise TransportUnavailable(
                f"RabbitMQ does not answer at {places}: {self._publishing.problem}"
            ) from None
        self._server = session.server

    async def close(self) -> None:
        """Closes; once begun it completes, even if the caller is cancelled meanwhile."""
        closing = asyncio.create_task(self._close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait([closing])
            raise

    async def _close(self) -> None:
        self._open = False
        inboxes, self._inboxes = self._inboxes, []
        try:
            await asyncio.gather(*(inbox.close() for inbox in inboxes))
            await self._publisher.close()
        finally:
            await asyncio.gather(self._publishing.close(), self._consuming.close())
            await asyncio.gather(*map(stop, list(self._counting.values())))

    async def declare(self, topology: Topology) -> None:
        self._require_open()
        await self._declaring.declare(topology)

    def made_anew(self) -> list[str]:
        return self._declaring.made_anew()

    async def restore(self, topology: Topology) -> list[str]:
        self._require_open()
        return await self._declaring.restore(topology)

    async def delete(self, queues: Sequence[str]) -> None:
        self._require_open()
        await self._declaring.delete(queues)

    async def publish(
        self,
        frames: Sequence[Frame],
        *,
        must_route: bool = False,
        checked: bool = False,
        timeout: float = 10.0,
    ) -> dict[str, Exception]:
        return await self._publisher.publish(frames, must_route, checked, timeout)

    async def request(self, frame: Frame, timeout: float) -> Frame:
        return await self._publisher.request(frame, timeout)

    async def inbox(self, queue: str, *, prefetch: int) -> RabbitInbox:
        self._require_open()
        inbox = RabbitInbox(self._consuming, queue, prefetch, self._declaring)
        self._inboxes = [*(other for other in self._inboxes if not other.closed), inbox]
        try:
            async with asyncio.timeout(self._connect_timeout):
                await inbox.started.wait()
        except TimeoutError:
            pass  # it goes on trying
        except asyncio.CancelledError:  # else nobody would settle what the inbox takes
            self._inboxes.remove(inbox)
            await inbox.close()
            raise
        return inbox

    def _consume_anew(self, queues: Collection[str]) -> None:
        """Restarts the consumers of queues that were created again: RabbitMQ may not tell a
        consumer that its queue is another one now."""
        for inbox in self._inboxes:
            if inbox.queue in queues:
                inbox.lose()

    async def consumers(self, queue: str) -> int:
        return (await self._count(queue))[1]

    async def depth(self, queue: str) -> int:
        return (await self._count(queue))[0]

    @property
    def healthy(self) -> bool:
        session = self._consuming.session
        return self._publisher.healthy and session is not None and session.alive

    @property
    def description(self) -> str:
        return self._server

    @property
    def retries(self) -> str:
        found = re.search(r"(\d+)\.(\d+)", self._server)
        if found is None or (int(found[1]), int(found[2])) < _DELAYS_ITSELF:
            return LADDER
        return (
            f"{LADDER}; {self._server} could delay by itself, and that is not used: no count shows "
            f"what it holds back, so a queue that holds messages would look empty"
        )

    async def _count(self, queue: str) -> tuple[int, int]:
        """Returns ready messages and consumers; callers for the same queue share one question.

        A caller that gives up waiting does not cancel it: that could end the connection of all
        consumers.
        """
        session = self._live_session()
        task = self._counting.get(queue)
        if task is None:
            task = self._counting[queue] = apart(count(session, queue))
            task.add_done_callback(lambda _: self._counting.pop(queue, None))
        await asyncio.wait([task], timeout=_COUNT_TIMEOUT)
        if not task.done() or task.cancelled():
            raise TransportUnavailable(f"RabbitMQ: no answer yet to how many there are in {queue}")
        try:
            return task.result()
        except (ConnectionError, AMQPError, ChannelInvalidStateError) as error:
            raise TransportUnavailable(f"RabbitMQ: {queue} cannot be counted: {error}") from None

    def _require_open(self) -> None:
        if not self._open:
            raise TransportUnavailable("the transport is not open: await transport.open() first")

    def _live_session(self) -> RabbitSession:
        self._require_open()
        session = self._consuming.session
        if session is None or not session.alive:
            raise self._consuming.problem
        return session
