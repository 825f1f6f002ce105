"""Dispatcher: finds the one handler of a message and runs it, in its unit of work.

Everything is composed when the bus is built; a dispatch is a look-up and an await.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bus.codec import digest_of
from bus.common.exceptions import judged
from bus.data.ids import category_of, derived_id, former_derived_id
from bus.declare.router import Handler
from bus.dispatch.dependencies import Alone, Bound, Provided, bind, bind_alone, takes_session
from bus.dispatch.measuring import Counted, Route, Routes, Watch
from bus.dispatch.middleware import (
    Middleware,
    Next,
    Settled,
    Stored,
    answering,
    compose,
    logged_and_retried,
    retried_on_conflict,
)
from bus.dispatch.results import Results
from bus.dispatch.transactions import Transactions
from bus.errors import ConfigurationError, OutcomeUnknown, ResultUnreadable, Unavailable
from bus.messages import Envelope, Message, Query, Receipt
from bus.observe.listeners import Signals
from bus.observe.signals import CommandHandled, CommandRepeated, EventHandled, QueryAnswered
from bus.read.projection import Projection
from bus.stores.event_log import Commit, EventLog
from bus.stores.session import Effects
from bus.write.receipts import check_repeat, receipt_of_repeat
from bus.write.unit_of_work import Publishing, UnitOfWork


class Dispatcher:
    """Routes commands and queries to their one handler, and events to a subscription's handler."""

    def __init__(
        self,
        service: str,
        handlers: Iterable[Handler],
        *,
        provided: Provided,
        middleware: Sequence[Middleware],
        event_log: EventLog,
        publishing: Publishing,
        effects: Effects,
        foreign: Mapping[str, str] | None = None,
        may_be_former: Callable[[datetime], bool] = lambda time: True,
        signals: Signals | None = None,
    ) -> None:
        self._service = service
        self._provided = provided
        self._middleware = middleware
        self._log = event_log
        self._publishing = publishing
        self._transactions = Transactions(effects, self._unit_of_work)
        self._owners = foreign or {}
        self._may_be_former = may_be_former
        self._signals = signals or Signals(service)
        self._watch = Watch(self._signals)
        self.lends_sessions = False
        """Whether any handler takes a session, so that `effects` must be open."""
        self._results: dict[type[Message], Results] = {}
        self._commands = Routes("command")
        self._queries = Routes("query")
        self._events: dict[tuple[str, type[Message]], Route] = {}
        self._by: dict[type[Message], Handler] = {}
        for handler in handlers:
            self._add(handler)

    def execute(self, envelope: Envelope) -> Awaitable[Receipt]:
        """Runs a command under a new id. Raises: NoHandler, and whatever its handler raises."""
        run = self._commands[type(envelope.message)].run
        return run(envelope)

    async def execute_once(self, envelope: Envelope) -> Receipt:
        """Runs a command at most once per id; returns the first receipt if it has run before.

        Raises: IdConflict (the id was used for another command), and what `execute` raises.
        """
        self._commands[type(envelope.message)]  # raises NoHandler, before the log is asked
        envelope = envelope._replace(digest=digest_of(envelope.message))
        stored = await self._stored(envelope)
        if stored is not None:
            return stored
        kept = self._transactions.kept
        try:
            receipt = await self.execute(envelope)
            if receipt.versions or envelope.id in kept:
                return receipt
            return await self._remember(envelope, receipt)
        finally:
            kept.discard(envelope.id)

    async def carry_out(self, envelope: Envelope) -> None:
        """Runs a queued command as `execute_once` does, without reading an earlier result."""
        try:
            await self.execute_once(envelope)
        except ResultUnreadable as error:
            if error.receipt.id != envelope.id:  # raised by a command that the handler executed
                raise

    async def recorded(self, envelope: Envelope) -> Receipt | None:
        """Returns the receipt stored for a command's id, its result as JSON types; None if none."""
        commits = await self._log.find(envelope.id)
        return receipt_of_repeat(commits, envelope) if commits else None

    def typed(self, command: type[Message], receipt: Receipt) -> Receipt:
        """Returns the receipt with its result as the handler's annotation says, if it is known.

        Raises: ResultUnreadable if another version's result does not fit the annotation.
        """
        results = self._results.get(command)
        return receipt if results is None else results.read(receipt)

    def ask(self, envelope: Envelope) -> Awaitable[Any]:
        """Runs a query. Raises: NoHandler, and whatever its handler raises."""
        run = self._queries[type(envelope.message)].run
        return run(envelope)

    async def handle(self, subscription: str, envelope: Envelope) -> None:
        """Runs a subscription's handler of an event, if any; stores its changes at most once."""
        route = self._events.get((subscription, type(envelope.message)))
        if route is not None:
            await route.run(envelope)

    @property
    def counted(self) -> list[Counted]:
        """How many runs each handler had here, exactly, whether somebody listens or not."""
        routes = (*self._commands.values(), *self._queries.values(), *self._events.values())
        return [route.counted for route in routes]

    def read_by(
        self, message: type[Message], by_view: Mapping[type, Projection[Any]]
    ) -> list[Projection[Any]]:
        """Returns the projections that a query's handler reads: by their views, or its lenders."""
        return self._provided.read_by(self.handler_of(message), by_view)

    def handler_of(self, message: type[Message]) -> Handler:
        """Returns the handler of a command or query. Raises: NoHandler."""
        if message not in self._by:
            (self._queries if issubclass(message, Query) else self._commands)[message]
        return self._by[message]

    def _add(self, handler: Handler) -> None:
        if handler.kind == "event":
            run_event = self._run_event_once if self._lends(handler) else self._run_event
            bound = bind(handler, self._provided)
            for message in handler.messages:
                route = Route(EventHandled, message.wire_name, handler.router)
                self._events[handler.router, message] = self._composed(
                    route,
                    lambda envelope: run_event(envelope, handler, bound),
                    keeps=self._keeps(handler, message),
                )
            return
        (message,) = handler.messages
        if message in self._by:
            raise ConfigurationError(
                f"{handler.name}: {message.__name__} is handled by {self._by[message].name} "
                f"already; a {handler.kind} has one handler, remove one"
            )
        self._by[message] = handler
        if handler.kind == "command":
            self._commands[message] = self._composed(
                Route(CommandHandled, message.wire_name, handler.name),
                self._command(handler),
                self.recorded,
                self._settled,
                keeps=self._keeps(handler, message),
            )
        else:
            route = Route(QueryAnswered, message.wire_name, handler.name)
            self._queries[message] = self._composed(route, self._query(handler))

    def _composed(
        self,
        route: Route,
        run: Next,
        stored: Stored | None = None,
        settled: Settled | None = None,
        *,
        keeps: bool = False,
    ) -> Route:
        if not self._middleware:
            route.chain = logged_and_retried(
                run, self._signals, route, settled=settled, keeps=keeps
            )
        else:
            retried = retried_on_conflict(run, self._signals, keeps=keeps)
            route.chain = compose(
                self._middleware, retried, stored, settled, signals=self._signals, route=route
            )
        self._watch.add(route)
        return route

    def _keeps(self, handler: Handler, message: type[Message]) -> bool:
        """Returns whether to keep the message as it was, for another run after a conflict.

        Conflicts come only from a unit of work, and each run with a session has a copy already.
        """
        if message.wire_flat or self._lends(handler):
            return False
        return bind_alone(handler, self._provided) is None

    def _lends(self, handler: Handler) -> bool:
        """Returns whether a handler takes a session; notes that, if it does."""
        takes = takes_session(handler, self._provided)
        self.lends_sessions |= takes
        return takes

    def _query(self, handler: Handler) -> Next:
        """Returns a query's handler without a unit of work, because a query changes nothing."""
        alone = bind_alone(handler, self._provided)
        if alone is None:
            bind(handler, self._provided)  # raises, naming what nobody provides
            raise AssertionError("a query asks for what only a unit of work has")
        return answering(alone, handler.name) if self._middleware else alone

    def _command(self, handler: Handler) -> Next:
        results = self._results[handler.messages[0]] = Results(handler)
        alone = bind_alone(handler, self._provided)
        if alone is not None:
            return _without_changes(alone, results)
        bound = bind(handler, self._provided)
        if self._lends(handler):
            return self._transactions.command(bound, results)

        async def run(envelope: Envelope) -> Receipt:
            work = self._unit_of_work(envelope.id, envelope)
            result = await bound(work)
            if result is None:
                return await work.commit()
            typed, stored = results.written(result)
            receipt = await work.commit(stored)
            if receipt.result is not stored:  # a repeat: the log had another result
                return results.read(receipt)
            return receipt._replace(result=typed)

        return run

    async def _run_event(self, envelope: Envelope, handler: Handler, bound: Bound) -> None:
        id = self._id_of_handling(envelope, handler)
        work = self._unit_of_work(id, envelope)
        try:
            await bound(work)
            if work.names_streams:
                await work.locate()
            if work.prepare() and not await self._done_formerly(envelope, handler):
                await work.store()
        except Exception as error:
            # Another delivery of the same event may have stored first: then this one is done, too.
            commits = await self._log.find(id)
            if not commits:
                raise
            check_repeat(commits[0], envelope)
            self._tell_found(commits, envelope, error)

    async def _done_formerly(self, envelope: Envelope, handler: Handler) -> bool:
        """Returns whether an earlier release handled this event.

        Its derived ids could be guessed, so a commit under one counts only if this event caused it.
        """
        if not self._may_be_former(envelope.time):
            return False
        commits = await self._log.find(former_derived_id(self._seed_of_handling(envelope, handler)))
        return bool(commits) and commits[0].causation_id == envelope.id

    async def _run_event_once(self, envelope: Envelope, handler: Handler, bound: Bound) -> None:
        id = self._id_of_handling(envelope, handler)
        mark = f"{self._service}.{handler.router}/{self._identity(envelope)}"
        await self._transactions.event(id, mark, envelope, bound)

    def _id_of_handling(self, envelope: Envelope, handler: Handler) -> str:
        return derived_id(self._seed_of_handling(envelope, handler))

    def _seed_of_handling(self, envelope: Envelope, handler: Handler) -> str:
        return f"{self._identity(envelope)}>{self._service}.{handler.router}"

    def _identity(self, envelope: Envelope) -> str:
        """Returns the event's id, prefixed with a foreign owner, whose ids may equal ours."""
        owner = self._owners.get(category_of(envelope.stream))
        return f"{owner}/{envelope.id}" if owner else envelope.id

    def _unit_of_work(self, id: str, envelope: Envelope, session: Any = None) -> UnitOfWork:
        return UnitOfWork(id, self._service, envelope, self._log, self._publishing, session=session)

    async def _remember(self, envelope: Envelope, receipt: Receipt) -> Receipt:
        """Stores the id of a command that recorded nothing, so that a repeat gets its receipt."""
        result = receipt.result
        if result is not None:
            result = self._results[type(envelope.message)].data(result)
        kept = await self._unit_of_work(envelope.id, envelope).commit(result, keep=True)
        return receipt if kept.result == result else await self._stored(envelope) or kept

    async def _settled(self, error: Exception, envelope: Envelope) -> Receipt | None:
        """Returns the receipt stored for a command whose run failed, if any; None for one without
        an id of the caller's. Raises: IdConflict, OutcomeUnknown if the log cannot be asked."""
        if not envelope.digest:
            return None
        try:
            commits = await self._log.find(envelope.id)
        except (Unavailable, OutcomeUnknown):
            raise OutcomeUnknown(
                f"{envelope.name} {envelope.id} ended in {error!r}, and whether it was stored "
                f"cannot be asked at the moment; repeat it with the same id"
            ) from error
        if not commits:
            return None
        receipt = receipt_of_repeat(commits, envelope)
        self._tell_found(commits, envelope, error)
        return self.typed(type(envelope.message), receipt)

    def _tell_found(self, commits: Sequence[Commit], envelope: Envelope, error: Exception) -> None:
        """Tells who listens of what an append has stored that was in doubt, or cut short."""
        if isinstance(judged(error), (OutcomeUnknown, TimeoutError)):
            self._unit_of_work(commits[0].id, envelope).tell_found(commits)

    async def _stored(self, envelope: Envelope) -> Receipt | None:
        receipt = await self.recorded(envelope)
        if receipt is None:
            return None
        self._signals.emit(CommandRepeated, envelope.name, envelope.id)
        return self.typed(type(envelope.message), receipt)


def _without_changes(alone: Alone, results: Results) -> Next:
    """Returns a route for a command handler that takes nothing to change: no unit of work."""

    async def run(envelope: Envelope) -> Receipt:
        result = await alone(envelope)
        if result is not None:
            result, _ = results.written(result)
        return Receipt(envelope.id, {}, result)

    return run
