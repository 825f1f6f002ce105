"""Real servers for one test: it shares a RabbitMQ and a MongoDB, and leaves nothing there."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar, cast

from pydantic import PrivateAttr

from bus.assembly.backend import Backend, default_backend
from bus.errors import ConfigurationError, Unavailable
from bus.observe.loops import Loops
from bus.settings import Settings
from bus.transports.base import Transport
from bus.transports.topology import Topology

Answer = TypeVar("Answer")

LONGEST = 50
"""Characters of a service's name."""


class RealSettings(Settings):
    """Settings for the services of one test, which run under unique names."""

    _prefix: str = PrivateAttr()
    _services: set[str] = PrivateAttr(default_factory=set)
    _declared: set[Topology] = PrivateAttr(default_factory=set)

    @classmethod
    def of(cls, amqp_url: str, mongo_url: str, prefix: str) -> Self:
        """Returns settings under which services are called `{prefix}_{name}`."""
        settings = cls(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db="", declare="always")
        settings._prefix = prefix
        return settings

    def named(self, service: str) -> str:
        """Returns the service's name with the prefix. Raises: ConfigurationError if it is longer
        than `LONGEST`."""
        if service.startswith(self._prefix):
            return service
        name = f"{self._prefix}_{service}"
        if len(name) > LONGEST:
            raise ConfigurationError(
                f"Bus({service!r}): a test on real services calls it {name!r}, and names have "
                f"{LONGEST} characters at most; shorten it by {len(name) - LONGEST}"
            )
        return name

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        """Returns the real transport and stores, and notes what they make."""
        self._services.add(service)
        real = default_backend(self)(service, projected, loops)
        noted = _Noted(real.transport, self._declared)
        return replace(real, transport=cast(Transport, noted))

    async def erase(self) -> None:
        """Deletes what the services made. Raises: TransportUnavailable, StoreUnavailable."""
        from bus.stores.mongo.erasing import drop
        from bus.transports.rabbitmq.erasing import erase

        await erase(self.amqp_urls, self._declared)
        await drop(self.mongo_url, sorted(self._services))


class _Noted:
    """A transport that notes what it declares."""

    def __init__(self, inner: Transport, declared: set[Topology]) -> None:
        self._inner = inner
        self._declared = declared

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def declare(self, topology: Topology) -> None:
        self._declared.add(topology)
        await self._inner.declare(topology)

    async def restore(self, topology: Topology) -> list[str]:
        self._declared.add(topology)
        return await self._inner.restore(topology)


@contextmanager
def real_services(amqp_url: str, mongo_url: str, prefix: str) -> Iterator[Settings]:
    """Yields settings for services on real servers; deletes what they made after the block."""
    settings = RealSettings.of(amqp_url, mongo_url, prefix)
    try:
        yield settings
    finally:
        _apart(settings.erase())


def problem_of(amqp_url: str, mongo_url: str) -> str:
    """Describes why tests cannot run on these servers; returns "" if they can."""
    try:
        _apart(_ask(Settings(amqp_url=amqp_url, mongo_url=mongo_url)))
    except (ConfigurationError, Unavailable) as error:
        return str(error)
    return ""


async def _ask(settings: Settings) -> None:
    from bus.stores.mongo.erasing import ask as ask_mongo
    from bus.transports.rabbitmq.erasing import ask as ask_rabbit

    await ask_rabbit(settings.amqp_urls)
    await ask_mongo(settings.mongo_url)


def _apart(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs it in a new thread, because the test may have an event loop of any kind running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
