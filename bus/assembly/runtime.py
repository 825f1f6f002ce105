"""What an open bus consists of, for delivery and the command line to use."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from bus.assembly.declarations import aggregates_of, events_of
from bus.codec import command_frame
from bus.common.moved import FormerReadStore
from bus.continuity.continuity import Continuity
from bus.declare.registry import registry_of
from bus.declare.router import Handler, Router
from bus.dispatch.dispatcher import Dispatcher
from bus.dispatch.joining import joined_work
from bus.errors import ConfigurationError
from bus.messages import Command, Envelope, Event, Fault, Receipt
from bus.observe.health import Checkup
from bus.observe.listeners import Signals
from bus.observe.loops import Loops
from bus.observe.signals import Sent
from bus.read.foreign import Foreign, History
from bus.read.freshness import Freshness
from bus.read.live import Live
from bus.read.projection import Projection
from bus.read.projector import Projector
from bus.rebuild.catalogue import Catalogue
from bus.rebuild.generations import Generation
from bus.rebuild.handled import handled
from bus.settings import Settings
from bus.signing import Signing
from bus.stores.collections import Collections, Target
from bus.stores.control import Control
from bus.stores.event_log import EventLog, FollowedLog, ReadableLog
from bus.stores.session import Effects, Join
from bus.transports.base import Frame, Transport
from bus.transports.topology import (
    Queue,
    Topology,
    command_queue,
    handler_queue,
    history_queue,
    projection_queues,
    requests_queue,
)
from bus.write.aggregate import Aggregate
from bus.write.publisher import Publisher
from bus.write.unit_of_work import Outbox, UnitOfWork

Result = TypeVar("Result")


class Subscription(NamedTuple):
    """Queues, and who handles their messages: a projection, a router's event handlers, or None
    for the service's commands."""

    name: str
    queues: tuple[Queue, ...]
    of: Projection[Any] | Router | None


class BusState:
    """Which event loop a bus is open in. `guests` are called to end what works with it."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_over = False
        self.guests: list[Callable[[], Awaitable[None]]] = []

    @property
    def problem(self) -> str | None:
        """Why it cannot be used here, if it cannot."""
        if self.loop is None:
            return "was closed" if self.is_over else "is not open"
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        return None if running is self.loop else "is open in another event loop, not in this one"


class Runtime(NamedTuple):
    """What a bus consists of in one event loop.

    In `declared` projections have no queues, because these come and go.
    `read_log` holds all categories that are read here, `followed` those of other services;
    `log_notes` are in the log's database, if that is another than the one of `control`;
    `disconnect` closes what was connected for it alone.
    """

    service: str
    settings: Settings
    transport: Transport
    event_log: EventLog
    collections: Collections
    control: Control
    effects: Effects
    join: Join
    log_notes: Control | None
    dispatcher: Dispatcher
    publisher: Publisher
    declared: tuple[Subscription, ...]
    catalogue: Catalogue
    commands: dict[str, type[Command]]
    checkup: Checkup
    routers: dict[str, Router]
    read_log: ReadableLog
    followed: FollowedLog | None
    foreign: Foreign
    history: History
    signing: Signing
    loops: Loops
    continuity: Continuity
    freshness: Freshness
    live: Live
    disconnect: Callable[[], Awaitable[None]]
    has_default_backend: bool
    state: BusState

    def usable(self) -> Self:
        """Returns itself. Raises: ConfigurationError if it is not open in this event loop."""
        if problem := self.state.problem:
            raise ConfigurationError(
                f"Bus({self.service!r}) {problem}: enter it where it is used, `async with bus:` (a "
                f"web application does so in its lifespan, which Starlette's and FastAPI's "
                f"TestClient runs as `with TestClient(app) as client:`)"
            )
        return self

    async def send(self, envelope: Envelope) -> None:
        """Puts a command on the service's durable queue.

        Raises: Unroutable, TransportUnavailable, InvalidMessage.
        """

        async def send(frame: Frame) -> None:
            failures = await self.transport.publish([frame], must_route=True)
            for failure in failures.values():
                raise failure

        await self._told(send, envelope, answered=False)

    async def request(self, envelope: Envelope, timeout: float) -> Frame:
        """Puts a command on the service's durable queue; returns the reply, of whichever kind.

        Raises: OutcomeUnknown, and what `send` raises.
        """

        async def request(frame: Frame) -> Frame:
            return await self.transport.request(frame, timeout)

        return await self._told(request, envelope, answered=True)

    async def _told(
        self, send: Callable[[Frame], Awaitable[Result]], envelope: Envelope, *, answered: bool
    ) -> Result:
        """Sends a command, and tells who listens, and the tracer, what came of it."""
        frame, signals = command_frame(envelope), self.signals
        begun = signals.sending(frame)
        began = time.monotonic()
        raised: BaseException | None = None
        try:
            return await send(begun[0] if begun else frame)
        except BaseException as error:
            raised = error
            raise
        finally:
            if begun:
                begun[1](raised)
            seconds, error_type = time.monotonic() - began, type(raised).__name__ if raised else ""
            raised = None  # else its traceback would hold it for ever
            signals.emit(Sent, envelope.name, envelope.id, answered, seconds, error_type)

    async def publish(self, event: Event, envelope: Envelope) -> Receipt:
        """Stores and publishes an event that belongs to no aggregate.

        Raises: OutcomeUnknown, StoreUnavailable, InvalidMessage, IdConflict.
        """
        with self.signals.publishing(envelope) as traced:
            work = UnitOfWork(envelope.id, self.service, traced, self.event_log, self.publisher)
            work.outbox.publish(event)
            return await work.commit()

    def joined(
        self, session: Any, correlation_id: str | None, headers: Mapping[str, str] | None
    ) -> AbstractAsyncContextManager[Outbox]:
        """Returns an outbox within the transaction of an application's session.

        Raises: ConfigurationError.
        """
        return joined_work(
            self.join(session),
            self.service,
            self.event_log,
            self.publisher,
            correlation_id,
            headers,
        )

    @property
    def signals(self) -> Signals:
        """The listeners to what happens here, the same in each of the bus's event loops."""
        return self.loops.signals

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """All subscriptions. A projection's queues are those of the collections that this version
        of the code feeds, as far as is known."""
        return tuple(map(self._with_queues, self.declared))

    @property
    def places(self) -> "list[Control | Collections]":
        """What must be opened and closed for the read side: one object may be both."""
        places: dict[int, Control | Collections] = {
            id(place): place for place in (self.control, self.collections)
        }
        return list(places.values())

    def _with_queues(self, subscription: Subscription) -> Subscription:
        projection = subscription.of
        if not isinstance(projection, Projection):
            return subscription
        fed = self.catalogue.known(projection).fed_by(projection.version)
        queues = (queue for generation in fed for queue in self.queues_of(projection, generation))
        return subscription._replace(queues=tuple(queues))

    def projector(
        self, projection: Projection[Any], target: Target, name: str, *, parks_all: bool = False
    ) -> Projector:
        """Returns one that fills a collection from what is read here, by a writer of that name."""
        return Projector(
            projection,
            target,
            self.read_log,
            self.collections,
            self.control,
            self.collections.writer(target, name),
            self.foreign,
            known_names=self.known_names,
            parks_all=parks_all,
            guard=partial(self.continuity.check, *self.stands_on(projection, target)),
            handled=partial(handled, self.control, target.collection),
            release_within=self.settings.release_within,
            signals=self.signals,
        )

    def stands_on(self, projection: Projection[Any], target: Target) -> list[str]:
        """Returns the collections without which a projection's documents cannot be right."""
        names = [target.collection]
        elsewhere = projection.sink is not None and not projection.sink.versions_in_checkpoints
        names += [] if target.versions_in_documents or elsewhere else ["checkpoints"]
        follows = not self.history.owners.keys().isdisjoint(projection.categories)
        return [*names, "followed"] if follows else names

    def queues_of(
        self, projection: Projection[Any], generation: Generation, partitions: int = 0
    ) -> list[Queue]:
        """Returns the queues that feed one collection of a projection, or did with so many
        `partitions`."""
        return projection_queues(
            self.service,
            generation.queue,
            projection.categories,
            partitions or generation.partitions,
            self.foreign.exchanges,
        )

    def letters_of(self, projection: Projection[Any], generation: Generation) -> list[str]:
        """Returns the queues whose dead letters may concern one collection of a projection: with
        the service's queue of history, if it follows others."""
        counts = (generation.partitions, *generation.former)
        named = [
            queue.name
            for count in counts
            for queue in self.queues_of(projection, generation, count)
        ]
        follows = not self.history.owners.keys().isdisjoint(projection.categories)
        return [*named, history_queue(self.service).name] if follows else named

    async def targets(self) -> list[Target]:
        """Returns the targets of all collections that are kept up to date or read.

        Raises: StoreUnavailable.
        """
        return [
            self.catalogue.target_of(projection, generation)
            for projection in self.projections
            for generation in (await self.catalogue.lineage(projection)).in_use(projection.version)
        ]

    @property
    def read_store(self) -> Any:
        """What `collections` and `control` were before; goes with the next version."""
        return FormerReadStore(self.collections, self.control)

    @property
    def aggregates(self) -> list[type[Aggregate]]:
        """The aggregates that handlers here have repositories of."""
        return aggregates_of(list(self.routers.values()), [])

    @property
    def projections(self) -> list[Projection[Any]]:
        subscribed = (subscription.of for subscription in self.declared)
        return [projection for projection in subscribed if isinstance(projection, Projection)]

    @property
    def events(self) -> list[type[Event]]:
        """All classes that this service reads events with, and the bus's own `Fault`."""
        return [*events_of(list(self.routers.values()), self.projections), Fault]

    @property
    def known_names(self) -> frozenset[str]:
        """The wire names of events that this service has a class for."""
        return frozenset(name for event in self.events for name in event.wire_names())

    @property
    def topology(self) -> Topology:
        return self._topology(self.subscriptions)

    @property
    def lasting_topology(self) -> Topology:
        """The topology without the queues of projections, which others may have deleted since."""
        return self._topology(self.declared)

    @property
    def projected_topology(self) -> Topology:
        """The topology of the queues of projections alone."""
        queues = (
            queue
            for subscription in self.subscriptions
            if isinstance(subscription.of, Projection)
            for queue in subscription.queues
        )
        return Topology(self.service, tuple(queues))

    def _topology(self, subscriptions: Sequence[Subscription]) -> Topology:
        subscribed = [queue for subscription in subscriptions for queue in subscription.queues]
        history = [history_queue(self.service)] if self.history.owners else []
        return Topology(self.service, (*subscribed, requests_queue(self.service), *history))


class HasRuntime(Protocol):
    """A bus, as the rooms beneath it see it."""

    @property
    def runtime(self) -> Runtime: ...


class OnOpenBus:
    """Works with a bus, by the runtime of the event loop that is running."""

    def __init__(self, bus: HasRuntime) -> None:
        self._bus = bus

    @property
    def _runtime(self) -> Runtime:
        return self._bus.runtime.usable()


def subscriptions_of(
    service: str,
    routers: Sequence[Router],
    projections: Sequence[Projection[Any]],
    owners: Mapping[str, str],
) -> tuple[Subscription, ...]:
    """Returns the subscriptions of a service: its commands, event handlers and projections."""
    found = [Subscription("commands", (command_queue(service),), None)]
    for router in routers:
        events = sorted(event_registry(router))
        if events:
            queue = handler_queue(service, router.name, events, owners)
            found.append(Subscription(router.name, (queue,), router))
    return (*found, *(Subscription(projection.name, (), projection) for projection in projections))


def event_registry(router: Router) -> dict[str, type[Event]]:
    """Returns the events that a router handles, by wire name, former names included."""
    messages = (message for handler in router.handlers for message in handler.messages)
    events = (message for message in messages if issubclass(message, Event))
    return registry_of(f"Router({router.name!r})", events)


def command_registry(handlers: Sequence[Handler]) -> dict[str, type[Command]]:
    """Returns the commands that a service handles, by wire name."""
    messages = (message for handler in handlers for message in handler.messages)
    commands = (message for message in messages if issubclass(message, Command))
    return registry_of("commands", commands)
