"""The plan: what a service declares, in the collections that its projections have now, against what
is at the broker. Changes nothing."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bus.assembly.runtime import OnOpenBus, Runtime
from bus.declare.policies import AHEAD
from bus.errors import ConfigurationError
from bus.read.projection import Projection
from bus.rebuild.generations import Generation
from bus.recovery.declared import declared_once
from bus.recovery.losses import time_limits
from bus.settings import MEMORY
from bus.transports.rabbitmq.connection import RabbitSession, checked_urls
from bus.transports.rabbitmq.declaring import APART_WITHIN, apart
from bus.transports.rabbitmq.moving.alone import alone
from bus.transports.rabbitmq.planning.change import Change
from bus.transports.rabbitmq.planning.diff import changes
from bus.transports.rabbitmq.planning.found import Found
from bus.transports.rabbitmq.planning.looking import look_at
from bus.transports.topology import Topology

CONNECT_TIMEOUT = 5.0
T = TypeVar("T")


class Plan(NamedTuple):
    """What differs. `source` says in words what the broker was looked at by."""

    service: str
    source: str
    changes: tuple[Change, ...]

    def differs(self, *, strictly: bool = False) -> bool:
        """Returns whether anything is to be done; `strictly`, also for warnings, and if something
        could not be looked at."""
        return any(strictly or not change.is_warning for change in self.changes)


class Planning(OnOpenBus):
    """Plans what is to be done at RabbitMQ for a bus, which must be open.

        async with bus.looking():
            plan = await Planning(bus).plan()

    Raises: ConfigurationError, TransportUnavailable.
    """

    async def plan(
        self, *, definitions: Path | None = None, consumer_timeout: float | None = None
    ) -> Plan:
        """Returns the plan. `definitions` is a file of `rabbitmqctl export_definitions` to look at
        in place of the broker; `consumer_timeout` (seconds) is what the broker is configured with,
        which it tells nobody."""
        runtime = self._runtime
        found = await found_at(runtime, definitions)
        return planned(runtime, found._replace(timeout=consumer_timeout))


def planned(runtime: Runtime, found: Found) -> Plan:
    """Returns the plan for what was found."""
    differing = changes(
        declared_topology(runtime),
        found,
        limits=time_limits(runtime),
        ahead=AHEAD,
        kept=kept_queues(runtime),
        divided=_divided(runtime),
        former=former_queues(runtime),
    )
    return Plan(runtime.service, found.source, tuple(differing))


def declared_topology(runtime: Runtime) -> Topology:
    """Returns the topology with the queues of projections that a worker of this release is about to
    divide into another number of partitions."""
    topology = runtime.topology
    known = {queue.name for queue in topology.queues}
    coming = [
        queue
        for projection, generation in _to_divide(runtime)
        for queue in runtime.queues_of(projection, generation, projection.partitions)
        if queue.name not in known
    ]
    return topology._replace(queues=(*topology.queues, *coming))


def _divided(runtime: Runtime) -> dict[str, tuple[int, int]]:
    """Returns the number of partitions that a projection's queue has, and is to have."""
    return {
        f"{runtime.service}.{generation.queue}": (generation.partitions, projection.partitions)
        for projection, generation in _to_divide(runtime)
    }


def _to_divide(runtime: Runtime) -> Iterator[tuple[Projection[Any], Generation]]:
    for projection in runtime.projections:
        for generation in runtime.catalogue.known(projection).fed_by(projection.version):
            if generation.partitions != projection.partitions:
                yield projection, generation


def former_queues(runtime: Runtime) -> set[str]:
    """Returns the queues of former numbers of partitions, which a worker deletes."""
    return {
        queue.name
        for projection in runtime.projections
        for generation in runtime.catalogue.known(projection).generations
        for count in generation.former
        for queue in runtime.queues_of(projection, generation, count)
    }


async def found_at(runtime: Runtime, definitions: Path | None = None) -> Found:
    """Looks at the broker of a service. Raises: ConfigurationError, TransportUnavailable."""
    settings = runtime.settings
    _require_broker(runtime)
    return await look_at(
        checked_urls(settings.amqp_urls, settings.heartbeat),
        declared_topology(runtime),
        noted=await declared_once(runtime),
        definitions=definitions,
        management_url=settings.management_url,
        compares=settings.declare == "always",
    )


def _require_broker(runtime: Runtime) -> None:
    if runtime.settings.amqp_url == MEMORY:
        raise ConfigurationError(
            "a plan compares a service with RabbitMQ, and this one is in memory: set BUS_AMQP_URL "
            "to the broker's URL"
        )


async def apart_of(
    runtime: Runtime,
    work: Callable[[RabbitSession], Awaitable[T]],
    doing: str,
    *,
    timeout: float | None = APART_WITHIN,
) -> T:
    """Runs work on a connection to a service's broker. Raises: ConfigurationError,
    TransportUnavailable."""
    urls = checked_urls(runtime.settings.amqp_urls, runtime.settings.heartbeat)
    return await apart(urls, CONNECT_TIMEOUT, work, doing, runtime.service, timeout=timeout)


async def alone_of(runtime: Runtime, work: Callable[[], Awaitable[T]], doing: str) -> T:
    """Does work while nobody else applies or prunes for the service. Raises: like `apart_of`."""
    _require_broker(runtime)
    held = partial(alone, service=runtime.service, work=work)
    return await apart_of(runtime, held, doing, timeout=None)


def kept_queues(runtime: Runtime) -> set[str]:
    """Returns the queues of all collections that projections have or had: a worker looks after
    them, and deletes those that are no longer needed."""
    return {name for projection in runtime.projections for name in _queues(runtime, projection)}


def _queues(runtime: Runtime, projection: Projection[Any]) -> Iterator[str]:
    lineage = runtime.catalogue.known(projection)
    for generation in (*lineage.generations, *lineage.gone):
        yield from runtime.letters_of(projection, generation)
