"""Bus: what a service embeds. Puts the parts together; each part's story is told elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from bus import forking
from bus.backend import backend_of, read_log_of
from bus.codec import command_frame, digest_of, new_envelope
from bus.continuity import Continuity
from bus.declarations import check_declarations
from bus.delivery.losses import Losses
from bus.delivery.replies import receipt_in
from bus.delivery.upkeep import Upkeep
from bus.dependencies import Provided, views_of
from bus.dispatcher import Dispatcher
from bus.errors import BusError, ConfigurationError, NotAllowed, TransportUnavailable
from bus.health import Checkup, Health, service_checks
from bus.log import Logger, configure_default
from bus.loops import Loops, pauses
from bus.messages import Command, Event, Message, Query, Receipt
from bus.middleware import Middleware
from bus.parts import Parts, command_registry, subscriptions_of
from bus.read.catalogue import Catalogue, CurrentDocuments
from bus.read.documents import Documents
from bus.read.freshness import Freshness
from bus.read.history import Foreign, History
from bus.read.live import Live
from bus.read.owner import check_owner, hand_over
from bus.read.projection import Projection
from bus.router import Router
from bus.served import freeze, never_served
from bus.settings import Settings
from bus.signing import Signing
from bus.tasks import end, together
from bus.write.publisher import Publisher
from bus.write.unit_of_work import UnitOfWork

Answer = TypeVar("Answer")

log = Logger("bus")


class Bus:
    """The two decks of one service.

    `service` names its exchanges, queues and (unless the settings do) its database. `provide` gives
    values to handlers by type. `middleware` goes round every handler, outermost first, within
    the bus's own logging and outside of its retry on conflict. `foreign` names the services that
    categories belong to, where projections or event handlers here follow another service's:
    `foreign={"job": "jobs"}`. `client` is a MongoDB client to use,
    motor's or PyMongo's asynchronous one; by default the bus makes one of motor's from the
    settings.

        async with Bus("bank", routers=[accounts], settings=Settings()) as bus:
            receipt = await bus.execute(OpenAccount(account_id="a1", owner="Ada"))

    Raises: ConfigurationError, for whatever is wrong with handlers and projections.
    """

    def __init__(
        self,
        service: str,
        *,
        routers: Sequence[Router] = (),
        projections: Sequence[Projection[Any]] = (),
        settings: Settings,
        provide: Mapping[Any, Any] | None = None,
        middleware: Sequence[Middleware] = (),
        foreign: Mapping[str, str] | None = None,
        client: Any = None,
    ) -> None:
        owners = dict(foreign or {})
        check_declarations(service, routers, projections, owners)
        self.service = service
        self._projections = {one.view: one for one in projections}
        projected = [one.name for one in projections]
        loops = Loops()
        backend = backend_of(service, settings, client, projected, loops)
        transport, event_log, read_store, effects, self._disconnect, inner, followed = backend
        signing = Signing(read_store, settings.signing_secret)
        publisher = Publisher(event_log, transport, signing.sign)
        projected_categories = {category for one in projections for category in one.categories}
        copied = {one: owner for one, owner in owners.items() if one in projected_categories}
        history = History(read_store, copied)
        read_log, followed = read_log_of(service, event_log, followed, copied)
        catalogue = Catalogue(projections, read_log, read_store, history)
        continuity = Continuity(event_log, read_store, catalogue, projections, signing, loops)
        self._freshness = Freshness(read_store, catalogue.target)
        self._live = Live(read_store, catalogue.target, loops)
        handlers = [handler for router in routers for handler in router.handlers]
        self._documents = {
            one.view: Documents(
                CurrentDocuments(one, catalogue, read_store), one.view, waiting=self._waiting(one)
            )
            for one in projections
        }
        dispatcher = Dispatcher(
            service,
            handlers,
            provided=Provided(provide or {}, self._documents),
            middleware=[*middleware, *inner],
            event_log=event_log,
            publishing=publisher,
            effects=effects,
            foreign=owners,
            may_be_former=signing.may_be_former,
        )
        checks = service_checks(
            transport, event_log, read_log, read_store, catalogue, projections, history
        )
        self._upkeep = Upkeep(
            transport, lambda: self.parts.lasting_topology, every=settings.sweep_every
        )
        self.parts = Parts(
            service,
            settings,
            transport,
            event_log,
            read_store,
            effects,
            dispatcher,
            publisher,
            subscriptions_of(service, routers, projections, owners),
            catalogue,
            command_registry(handlers),
            Checkup([*checks, *continuity.checks, self._upkeep.check], loops=loops),
            {router.name: router for router in routers},
            read_log,
            followed,
            Foreign(owners, settings.gap_within),
            history,
            signing,
            loops,
            continuity,
        )
        self._open: AsyncExitStack | None = None
        freeze(service, routers, projections)
        for reason in never_served(service, routers, projections):
            log.warning("declared and never served", reason=reason)

    async def __aenter__(self) -> Self:
        """Connects. RabbitMQ may be away, then events wait in the log; MongoDB may not.

        Raises: StoreUnavailable, ConfigurationError, TopologyMismatch.
        """
        await self._enter(looking=False)
        return self

    @asynccontextmanager
    async def looking(self) -> AsyncGenerator[Self, None]:
        """Opens it for somebody who looks at what there is: it begins no build and binds no queue,
        so that code of another release than that which serves may do so too.

        Raises: StoreUnavailable, ConfigurationError.
        """
        await self._enter(looking=True)
        try:
            yield self
        finally:
            await self.__aexit__(None, None, None)

    async def claim(self, former: str) -> None:
        """Makes the database of the service that was named so this one's. The bus is not open.

        Raises: ConfigurationError (it is another one's), StoreUnavailable, OutcomeUnknown.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._disconnect)
            stack.push_async_callback(self.parts.read_store.close)
            await self.parts.read_store.open()
            await hand_over(self.parts.read_store, self.service, former)

    async def _enter(self, *, looking: bool) -> None:
        configure_default()
        try:
            await self._open_all(looking=looking)
        except NotAllowed as error:
            raise ConfigurationError(str(error)) from error

    async def _open_all(self, *, looking: bool) -> None:
        parts = self.parts
        losses = Losses(parts)
        forking.opened(self)
        async with AsyncExitStack() as stack:
            stack.callback(forking.closed, self)
            stack.push_async_callback(self._disconnect)
            stack.push_async_callback(parts.event_log.close)
            stack.push_async_callback(parts.read_store.close)
            stack.push_async_callback(parts.effects.close)
            stack.push_async_callback(parts.catalogue.close)
            stack.push_async_callback(self._freshness.close)
            stack.push_async_callback(self._live.close)
            stack.push_async_callback(parts.transport.close)
            if parts.followed:
                stack.push_async_callback(parts.followed.close)
                await parts.followed.open()
            await parts.read_store.open()
            await check_owner(parts.read_store, self.service, claims=not looking)
            await together(
                parts.event_log.open(),
                parts.catalogue.look() if looking else parts.catalogue.open(begins=False),
                parts.signing.open(),
                self._open_effects(),
                self._look() if looking else self._connect(stack),
            )
            await parts.continuity.open()
            loops = (
                (self._upkeep.run, "upkeep"),
                (losses.run, "losses"),
                (parts.continuity.run, "continuity"),
            )
            for run, name in () if looking else loops:
                stack.push_async_callback(_end, parts.loops.start(run, name))
            stack.push_async_callback(parts.publisher.close)
            stack.push_async_callback(parts.checkup.close)
            self._open = stack.pop_all()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opened, self._open = self._open, None
        if opened:
            await opened.aclose()

    def forked(self) -> None:
        """Called in the child of a fork: nothing of the parent's connections is used or closed."""
        self._open = None
        self.parts = cast(Parts, forking.Parent(self.service))

    async def execute(
        self,
        command: Command,
        *,
        id: str | None = None,
        after: Receipt | None = None,
        timeout: float = 5.0,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Carries a command out, here and now; on return its events are durable.

        A command with an `id` is carried out at most once per id: a repeat gets the first receipt,
        another command an IdConflict.
        With `after`, it first waits (`timeout` seconds at most) until the read collections that
        its handler reads include what that receipt tells of.
        Raises: NoHandler, NotCaughtUp, ConcurrencyError, OutcomeUnknown (repeat with the same id),
        StoreUnavailable, and whatever the handler raises; then nothing was stored.
        """
        envelope = new_envelope(command, id, correlation_id, headers)
        if after is not None:
            await self._caught_up(type(command), after, timeout)
        dispatcher = self.parts.dispatcher
        return await (
            dispatcher.execute(envelope) if id is None else dispatcher.execute_once(envelope)
        )

    async def query(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: float = 5.0
    ) -> Answer:
        """Answers a query.

        With `after`, it first waits (`timeout` seconds at most) until the read collections that
        the handler reads include what that receipt tells of.
        Raises: NoHandler, NotCaughtUp, StoreUnavailable, and whatever the handler raises.
        """
        if after is not None:
            await self._caught_up(type(query), after, timeout)
        answer: Answer = await self.parts.dispatcher.ask(new_envelope(query))
        return answer

    def watch(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: float = 5.0
    ) -> AsyncGenerator[Answer, None]:
        """The answer to a query now, and then each one that differs from the one before.

            async with aclosing(bus.watch(ListAccounts())) as answers:
                async for answer in answers: ...

        It is asked again, as `query` would, after something has changed in the read collections
        that its handler reads; ten times a second at most, so that of changes in between only the
        last one shows. While the database is away there are no answers; afterwards it goes on.
        With `after`, the first answer includes what that receipt tells of, as with `query`. The
        answers end when the bus closes.
        Raises: ConfigurationError (the handler reads no projection), NoHandler; and from the
        iteration NotCaughtUp, NotBuilt, and whatever the handler raises.
        """
        projections = self._read_by(type(query))
        if not projections:
            raise ConfigurationError(
                f"{query.wire_name} cannot be watched: its handler reads no projection, so that "
                f"nothing tells when its answer changes; let it take Documents[...], or use query()"
            )

        async def answers() -> AsyncGenerator[Answer, None]:
            if after is not None:
                await self._freshness.wait_for(projections, after.versions, timeout)
            async with aclosing(self._live.answers(projections, lambda: self.query(query))) as all:
                async for answer in all:
                    yield answer

        return answers()

    async def send(
        self,
        command: Command,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Puts a command on the service's queue, durably, for a worker; returns its id.

        Raises: Unroutable (nobody declared the queue), TransportUnavailable (it may have arrived:
        sending again with the same id is safe), InvalidMessage.
        """
        envelope = new_envelope(command, id, correlation_id, headers)
        failures = await self.parts.transport.publish([command_frame(envelope)], must_route=True)
        for failure in failures.values():
            raise failure
        return envelope.id

    async def request(
        self,
        command: Command,
        *,
        id: str | None = None,
        timeout: float = 30.0,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Puts a command on the service's queue, durably, and waits for the receipt of the worker
        that carries it out, `timeout` seconds at most.

        Raises: what the handler raised (an error of the bus as itself, another one as RemoteError),
        then nothing was stored; OutcomeUnknown (not answered in time, or the connection was lost
        meanwhile: repeating it with the error's `id` gets the receipt, and carries nothing out a
        second time); Unroutable, TransportUnavailable and InvalidMessage as `send` does, but
        TransportUnavailable only where nobody received it.
        """
        envelope = new_envelope(command, id, correlation_id, headers)
        reply = await self.parts.transport.request(command_frame(envelope), timeout)
        return self.parts.dispatcher.typed(type(command), receipt_in(reply))

    async def publish(
        self,
        event: Event,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Stores and publishes a fact that belongs to no aggregate, under the service's own stream.

        Raises: OutcomeUnknown, StoreUnavailable, InvalidMessage, IdConflict (the id was used for
        something else).
        """
        envelope = new_envelope(event, id, correlation_id, headers)
        if id is not None:
            envelope = envelope._replace(digest=digest_of(event))
        parts = self.parts
        work = UnitOfWork(envelope.id, self.service, envelope, parts.event_log, parts.publisher)
        work.outbox.publish(event)
        return await work.commit()

    async def health(self) -> Health:
        """What is wrong with the parts that this process works with; it answers within about 1 s,
        or 3 s where a part was never heard of.

        Not ready without its database; the broker may be away, then events wait in the log. Where
        a worker runs in this process, what it needs counts too. Never raises.
        """
        return await self.parts.checkup.health()

    async def alive(self) -> bool:
        """False where only a restart helps. Asks nobody outside this process; never raises."""
        return (await self.parts.checkup.alive()).alive

    async def _caught_up(self, message: type[Message], after: Receipt, timeout: float) -> None:
        await self._freshness.wait_for(self._read_by(message), after.versions, timeout)

    def _read_by(self, message: type[Message]) -> list[Projection[Any]]:
        views = views_of(self.parts.dispatcher.handler_of(message))
        return [self._projections[view] for view in views if view in self._projections]

    def _waiting(self, projection: Projection[Any]) -> Any:
        async def waiting(versions: Mapping[str, int], timeout: float) -> None:
            await self._freshness.wait_for([projection], versions, timeout)

        return waiting

    async def _open_effects(self) -> None:
        parts = self.parts
        if parts.dispatcher.lends_sessions:
            await parts.effects.open()

    async def _look(self) -> None:
        with suppress(TransportUnavailable):  # what needs the broker says so
            await self.parts.transport.open()

    async def _connect(self, stack: AsyncExitStack) -> None:
        """Connects and declares; where the broker is away, goes on trying in the background."""
        try:
            await self.parts.transport.open()
            await self.parts.catalogue.learned.wait()
            await self.parts.transport.declare(self.parts.topology)
            self.parts.publisher.start()
        except TransportUnavailable as error:
            log.warning("broker away; events wait in the log meanwhile", reason=str(error))
            task = self.parts.loops.start(self._declare_later, "declaring")
            stack.push_async_callback(_end, task)

    async def _declare_later(self) -> None:
        for pause in pauses():
            await asyncio.sleep(pause)
            try:
                await self.parts.transport.declare(self.parts.topology)
            except TransportUnavailable:
                continue
            except BusError as error:
                log.error("queues are not as they should be", reason=str(error))
            self.parts.publisher.start()
            return


async def _end(task: asyncio.Task[None]) -> None:
    await end([task])
