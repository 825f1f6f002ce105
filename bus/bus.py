"""Bus: what a service embeds. `assembly` builds its parts, `opening` connects them."""

import warnings
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from bus.assembly.arguments import check_arguments, check_backend
from bus.assembly.assembly import Assembly
from bus.assembly.backend import MakeBackend
from bus.assembly.runtime import Runtime
from bus.assembly.served import freeze, warn_never_served
from bus.codec import digest_of, new_envelope
from bus.common.figures import Seconds, seconds
from bus.declare.router import Router
from bus.delivery.replies import receipt_in
from bus.dispatch.middleware import Middleware
from bus.errors import ConfigurationError
from bus.lifecycle import forking
from bus.lifecycle.entering import Entered
from bus.messages import Command, Event, Message, Query, Receipt, check_kind, to_wait_for
from bus.observe.health import Health, HealthProblem
from bus.observe.listeners import Signals
from bus.observe.log import Logger
from bus.observe.signals import Signal
from bus.opening import claim, opened
from bus.read.projection import Projection
from bus.settings import Settings
from bus.transports.feed import Feed
from bus.write.unit_of_work import Outbox

Answer = TypeVar("Answer")
Some = TypeVar("Some", bound=Signal)
log = Logger("bus")


class Bus:
    """The write side and the read side of one service, to be opened with `async with`.

    `service` names its exchanges and queues, and its database unless the settings do. `provide`
    gives values to handlers by type. `middleware` wraps every handler, outermost first, inside the
    bus's own logging and outside its retry on conflict. `foreign` maps the categories that
    projections or event handlers here follow to the services that own them:
    `foreign={"job": "jobs"}`; or to a feed that brings their events, as `bus.kafka.KafkaFeed`.
    `client` is a MongoDB client (motor's or PyMongo's asynchronous one)
    or a function that makes one in each event loop; by default the bus makes one of motor's from
    the settings. `backend` makes the transport and the stores, if they are not to be those of the
    settings (see `default_backend`).

        async with Bus("bank", routers=[accounts], settings=Settings()) as bus:
            receipt = await bus.execute(OpenAccount(account_id="a1", owner="Ada"))

    Raises: ConfigurationError, for anything wrong with handlers and projections.
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
        foreign: Mapping[str, str | Feed] | None = None,
        backend: MakeBackend | None = None,
        client: Any = None,
    ) -> None:
        provide, foreign = provide or {}, foreign or {}
        check_arguments(service, routers, projections, settings, provide, middleware, foreign)
        check_backend(service, backend, client)
        self.service = settings.named(service)
        self._projections = {p.view: p for p in projections if p.sink is None}
        self._signals = Signals(self.service)
        self._assembly = Assembly(
            service=service,
            routers=routers,
            projections=projections,
            settings=settings,
            provide=provide,
            middleware=middleware,
            foreign=foreign,
            backend=backend,
            client=client,
            signals=self._signals,
        )
        self._runtime = self._assembly.runtime()
        self._unopened = [self._runtime]
        self._serving = Entered(partial(self._opened, looking=False))
        self._looking = Entered(partial(self._opened, looking=True))
        freeze(service, routers, projections)
        warn_never_served(service, routers, projections)

    def listen(
        self, kind: type[Some], listener: Callable[[Some], object], *, apart: bool = False
    ) -> Callable[[], None]:
        """Has a function called with each signal of a kind, wherever this bus or its worker runs in
        this process: `bus.listen(signals.CommandHandled, count)`; `signals.Signal` is all of them.

        It is called where it happens, and everything waits for it; `apart`, a thread calls it. What
        it raises harms nobody. Returns what ends the listening. Raises: ConfigurationError.
        """
        return self._signals.listen(kind, listener, apart=apart)

    @property
    def runtime(self) -> Runtime:
        """The open parts: of this event loop, else of another one, else those opened last."""
        return self._serving.here() or self._looking.here() or self._nearest

    @property
    def _nearest(self) -> Runtime:
        """The parts whose state explains best why nothing is open in this event loop."""
        return self._serving.elsewhere() or self._looking.elsewhere() or self._runtime

    @property
    def broker(self) -> str:
        """The broker and its version, for people, as far as it was reached: "RabbitMQ 3.10.8"."""
        return self.runtime.transport.description

    @property
    def parts(self) -> Runtime:
        """The former name of `runtime`, until the next version."""
        warnings.warn("Bus.parts is Bus.runtime now", DeprecationWarning, stacklevel=2)
        return self.runtime

    async def __aenter__(self) -> Self:
        """Connects. MongoDB must answer; while RabbitMQ is away, events wait in the log.

        The bus is open in this event loop until it has been left as often as it was entered there.
        Other loops (of other threads, or later ones) enter it themselves, at any time.

        Raises: StoreUnavailable, ConfigurationError, TopologyMismatch.
        """
        await self._enter(self._serving)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave(self._serving)

    @asynccontextmanager
    async def looking(self) -> AsyncGenerator[Self, None]:
        """Opens the bus for inspection: starts no build and binds no queue, so that code of another
        release than the serving one can inspect too. Raises: StoreUnavailable, ConfigurationError.
        """
        await self._enter(self._looking)
        try:
            yield self
        finally:
            await self._leave(self._looking)

    async def claim(self, former: str) -> None:
        """Takes over the database of the service that was named `former`. The bus must be closed.

        Raises: ConfigurationError (it is another service's), StoreUnavailable, OutcomeUnknown.
        """
        await claim(self.unopened(), former)

    def unopened(self) -> Runtime:
        """Returns the parts of one more opening, none of which is open."""
        return self._assembly.runtime()

    async def _enter(self, entered: Entered[Runtime]) -> None:
        forking.opened(self)
        try:
            await entered.enter()
        finally:
            self._watch_forks()

    async def _leave(self, entered: Entered[Runtime]) -> None:
        try:
            if not await entered.leave() and entered.anywhere:
                log.warning("left_in_another_loop", bus=self.service)
        finally:
            self._watch_forks()

    def _watch_forks(self) -> None:
        if not (self._serving.anywhere or self._looking.anywhere):
            forking.closed(self)

    def _opened(self, *, looking: bool) -> AbstractAsyncContextManager[Runtime]:
        try:
            runtime = self._unopened.pop()
        except IndexError:  # a loop of another thread may have taken them
            runtime = self._assembly.runtime()
        self._runtime = runtime
        return opened(runtime, looking=looking)

    def _here(self) -> Runtime:
        """Returns what is open in this event loop. Raises: ConfigurationError."""
        return self._serving.here() or self._looking.here() or self._nearest.usable()

    def forked(self) -> None:
        """Forgets the parent's connections in the child of a fork, without using or closing any."""
        self._serving.forget()
        self._looking.forget()
        self._unopened.clear()
        parent = forking.Parent(self.service)
        self._runtime, self._assembly = cast(Runtime, parent), cast(Assembly, parent)

    async def execute(
        self,
        command: Command,
        *,
        id: str | None = None,
        after: Receipt | None = None,
        timeout: Seconds = 5.0,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Runs a command's handler in this process; on return, its events are durable.

        A command with an `id` runs at most once per id: a repeat gets the first receipt, another
        command raises IdConflict. With `after`, it first waits (at most `timeout`: seconds or a
        timedelta; with 0 it asks once) until the read collections that its handler reads include
        what that receipt wrote.

        Raises: NoHandler, NotCaughtUp, ConcurrencyError, OutcomeUnknown (repeat with the same id),
        StoreUnavailable, and whatever the handler raises; then nothing was stored.
        """
        envelope = new_envelope(command, id, correlation_id, headers)
        if after is not None:
            await self._caught_up("execute", type(command), after, timeout)
        last = self._serving.last  # like `here`, but without calls: this is the hottest path
        if last is not None and last.thread == get_ident() and last.loop.is_running():
            runtime = last.value or self._here()
        else:
            runtime = self._here()
        by = runtime.dispatcher
        return await (by.execute(envelope) if id is None else by.execute_once(envelope))

    async def query(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: Seconds = 5.0
    ) -> Answer:
        """Returns the answer to a query.

        With `after`, it first waits (at most `timeout`: seconds or a timedelta; with 0 it asks
        once) until the read collections that the handler reads include what that receipt wrote.

        Raises: NoHandler, NotCaughtUp, StoreUnavailable, and whatever the handler raises.
        """
        if after is not None:
            await self._caught_up("query", type(query), after, timeout)
        runtime = self._serving.here() or self._here()
        answer: Answer = await runtime.dispatcher.ask(new_envelope(query))
        return answer

    def watch(
        self, query: Query[Answer], *, after: Receipt | None = None, timeout: Seconds = 5.0
    ) -> AsyncGenerator[Answer, None]:
        """Yields the answer to a query now, and then each answer that differs from the one before.

            async with aclosing(bus.watch(ListAccounts())) as answers:
                async for answer in answers: ...

        The query runs again, as with `query`, after a change in the read collections that its
        handler reads, at most ten times a second: of changes in between, only the last one shows.
        While the database is away there are no answers; afterwards they continue. With `after`, the
        first answer includes what that receipt wrote. The answers end when the bus closes.

        Raises: ConfigurationError (the handler reads no projection, or one whose collections are
        not `Watchable`), NoHandler; and from the iteration NotCaughtUp, NotBuilt, and whatever the
        handler raises.
        """
        check_kind(type(query), Query, "watch")
        if not (projections := self._read_by(type(query))):
            raise ConfigurationError(
                f"{query.wire_name} cannot be watched: its handler reads no projection, so that "
                f"nothing tells when its answer changes; let it take Documents[...], or use query()"
            )
        limit = seconds(timeout, "watch(): timeout", zero=True)
        runtime = self._here()
        for projection in projections:
            runtime.live.watchable(projection)

        async def ask() -> Answer:
            answer: Answer = await runtime.dispatcher.ask(new_envelope(query))
            return answer

        async def caught_up() -> None:
            if after is not None:
                await runtime.freshness.wait_for(projections, to_wait_for(after), limit)

        return runtime.live.answers(projections, ask, caught_up)

    async def send(
        self,
        command: Command,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Puts a command on the service's durable queue, for a worker; returns its id.

        Raises: Unroutable (nobody declared the queue), TransportUnavailable (the command may have
        arrived: sending it again with the same id is safe), InvalidMessage.
        """
        envelope = new_envelope(command, id, correlation_id, headers)
        await self._here().send(envelope)
        return envelope.id

    async def request(
        self,
        command: Command,
        *,
        id: str | None = None,
        timeout: Seconds = 30.0,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Puts a command on the service's durable queue, waits at most `timeout` (seconds, or a
        timedelta) for the worker that runs it, and returns its receipt.

        Raises: what the handler raised (an error of the bus as itself, any other as RemoteError);
        then nothing was stored. OutcomeUnknown if no answer came in time or the connection was
        lost: repeating the command with the error's `id` gets the receipt and runs nothing twice.
        Unroutable and InvalidMessage as `send` does, TransportUnavailable only if nobody received
        the command.
        """
        limit = seconds(
            timeout, "request(): timeout", zero=False, otherwise="; send() waits for no answer"
        )
        envelope = new_envelope(command, id, correlation_id, headers)
        runtime = self._here()
        reply = await runtime.request(envelope, limit)
        return runtime.dispatcher.typed(type(command), receipt_in(reply, envelope.name))

    async def publish(
        self,
        event: Event,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Stores and publishes an event that belongs to no aggregate, in a stream of the service.

        Raises: OutcomeUnknown, StoreUnavailable, InvalidMessage, IdConflict (the id was used for
        something else).
        """
        check_kind(type(event), Event, "publish")
        envelope = new_envelope(event, id, correlation_id, headers)
        if id is not None:
            envelope = envelope._replace(digest=digest_of(event))
        return await self._here().publish(event, envelope)

    def unit_of_work(
        self,
        session: Any,
        *,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[Outbox]:
        """Adds events and commands to the transaction of an AsyncSession (SQLAlchemy's) in which
        the application writes its own rows, on the event log's database.

            async with bus.unit_of_work(session) as work:
                work.publish(OrderPlaced(...), stream="order-17")
            await session.commit()

        They are published once the session is committed; what is rolled back never was.

        Raises: ConfigurationError (not such a session); ConcurrencyError (another transaction was
        first in a stream: roll back, and do it all again), InvalidMessage, StoreUnavailable.
        """
        return self._here().joined(session, correlation_id, headers)

    async def health(self) -> Health:
        """Returns what is wrong with the parts that this process uses, within about 1 s, or 3 s if
        a part has never answered.

        It is not ready without its database, but ready without the broker, because events wait in
        the log. If a worker runs in this process, what it needs counts too. Never raises.
        """
        if isinstance(self.runtime, Runtime) and (problem := self.runtime.state.problem):
            return Health(True, False, (HealthProblem("bus", f"it {problem}", 0.0, "ready"),))
        return await self.runtime.checkup.health()

    async def alive(self) -> bool:
        """Returns False if only a restart helps. Asks no other process; never raises."""
        return (await self.runtime.checkup.alive()).alive

    async def _caught_up(
        self, caller: str, message: type[Message], after: Receipt, timeout: Seconds
    ) -> None:
        limit, read = seconds(timeout, f"{caller}(): timeout", zero=True), self._read_by(message)
        await self._here().freshness.wait_for(read, to_wait_for(after), limit)

    def _read_by(self, message: type[Message]) -> list[Projection[Any]]:
        return self.runtime.dispatcher.read_by(message, self._projections)
