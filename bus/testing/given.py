"""Given, when, then: tests handlers, aggregates and projections as the plain functions they are.

What is given is stored in an event log and collections in memory, encoded as in the real ones.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from bus.assembly.declarations import taken_by
from bus.building import a
from bus.codec import envelopes_of, record
from bus.common import clock
from bus.common.signatures import name_of
from bus.data.limits import check_aggregate_id
from bus.declare.router import Kind, Router
from bus.dispatch.dependencies import Provided, bind, repositories_of, views_of
from bus.errors import ConfigurationError
from bus.messages import Command, Envelope, Event, Message, Query
from bus.observe.listeners import Signals
from bus.read.documents import Documents
from bus.read.projection import Projection
from bus.stores.collections import Changes, ReadUnit, Target, Write, Writer
from bus.stores.documents.values import fields_of
from bus.stores.event_log import Commit, EventLog
from bus.stores.memory import MemoryCollections, MemoryEventLog
from bus.stores.memory.effects import MemorySession
from bus.stores.session import handled
from bus.stores.sinks.memory import MemoryPlace
from bus.stores.sinks.placed import SinkWriter
from bus.testing.comparing import Said
from bus.testing.outcome import Folded, Outcome, check_given
from bus.testing.written import documents_in
from bus.transports.base import Frame
from bus.write import snapshots
from bus.write.aggregate import Aggregate, not_read_back, stream_of
from bus.write.repository import Repository, apply, catch_up
from bus.write.unit_of_work import UnitOfWork

Answer = TypeVar("Answer")


def given(aggregate: type[Aggregate], id: str, *events: Event) -> "Scenario":
    """Starts a scenario with what has happened to an aggregate so far; without events, nothing.

        opened = given(Account, "a1", AccountOpened(owner="Ada"))
        opened.when(Account.deposit, 5).then(Deposited(amount=5))

    Raises: AssertionError, InvalidMessage, ConfigurationError for what cannot be given.
    """
    return Scenario().given(aggregate, id, *events)


def given_documents(documents: Mapping[str, BaseModel]) -> "Scenario":
    """Starts a scenario with documents of read collections, by key; a view's class says which."""
    return Scenario().given_documents(documents)


def check_aggregate(aggregate: object, id: str) -> None:
    """Raises: AssertionError if it is not a class of an aggregate, InvalidMessage if `id` is not a
    valid id."""
    if isinstance(aggregate, Aggregate):
        name = type(aggregate).__name__
        raise AssertionError(
            f"given(...) takes the class of an aggregate and an id, and this is {a(aggregate)} "
            f"itself; write given({name}, {aggregate.id!r}, ...)"
        )
    if not (isinstance(aggregate, type) and issubclass(aggregate, Aggregate)):
        raise AssertionError(
            f"given(...) takes the class of an aggregate first, as in given(Account, 'a1'), "
            f"and this is {aggregate!r:.100}"
        )
    check_aggregate_id(id, aggregate.__name__)


def commit_of(aggregate: type[Aggregate], id: str, first: int, events: Sequence[Event]) -> Commit:
    """Returns the commit that stores events of an aggregate, the first one with version `first`.

    Raises: InvalidMessage; ConfigurationError for an event that the aggregate would not read.
    """
    for event in events:
        check_given(event, Event, "given(...)")
        if event.wire_name not in aggregate.events():
            raise ConfigurationError(
                f"given({aggregate.__name__}, {id!r}, {type(event).__name__}(...)): "
                f"{not_read_back(aggregate, type(event))}"
            )
    return Commit(
        id=clock.new_id(),
        stream=stream_of(aggregate, id),
        category=aggregate.category,
        first=first,
        events=tuple(map(record, events)),
        time=clock.now(),
        correlation_id=clock.new_id(),
    )


async def give(
    log: EventLog, aggregate: type[Aggregate], id: str, events: Sequence[Event]
) -> Commit:
    """Stores events of an aggregate after those that there are, with its state if it is stored by
    that. Raises: what `commit_of` does."""
    stored = await log.read(stream_of(aggregate, id))
    commit = commit_of(aggregate, id, stored[-1].last + 1 if stored else 1, events)
    if aggregate.storing.by_state:
        await snapshots.prepare(log, aggregate)
        it = aggregate(id)
        await catch_up(it, log)
        apply(it, list(enumerate(commit.events, commit.first)), aggregate.events())
        commit = commit._replace(state=it.to_snapshot())
    await log.append([commit])
    return commit


class Scenario:
    """What exists before a message comes; made by `given` or `given_documents`."""

    def __init__(self) -> None:
        self._log = MemoryEventLog()
        self._commits: list[Commit] = []
        self._events: list[Envelope] = []
        self._first: tuple[type[Aggregate], str] | None = None
        self._documents: dict[type[BaseModel], dict[str, BaseModel]] = {}

    def given(self, aggregate: type[Aggregate], id: str, *events: Event) -> Self:
        """Adds an aggregate's events to what is given already."""
        check_aggregate(aggregate, id)
        self._first = self._first or (aggregate, id)
        if events:
            commit = _run(give(self._log, aggregate, id, events))
            self._commits.append(commit)
            self._events += envelopes_of(commit, aggregate.events())
        return self

    def given_documents(self, documents: Mapping[str, BaseModel]) -> Self:
        """Adds documents by key to what is given already."""
        if not isinstance(documents, Mapping):
            raise AssertionError(
                f"given_documents(...) takes documents by their keys, and this is of type "
                f"{type(documents).__name__}"
            )
        for key, view in documents.items():
            if not isinstance(view, BaseModel):
                raise AssertionError(
                    f"given_documents(...) takes views, and {key!r} is of type "
                    f"{type(view).__name__}"
                )
            if not isinstance(key, str):
                raise AssertionError(
                    f"given_documents(...) takes documents by their keys, which are text, and "
                    f"{key!r} is of type {type(key).__name__}"
                )
            self._documents.setdefault(type(view), {})[key] = view
        return self

    def when(self, step: Callable[..., object], *arguments: Any, **named: Any) -> Outcome:
        """Calls a method of the first aggregate given, or a class method that makes one; awaits it
        if it is async."""
        if self._first is None:
            raise AssertionError("when(...): give an aggregate first, as in given(Account, 'a1')")
        aggregate, id = self._first
        if not callable(step):
            raise AssertionError(
                f"when(...) takes a method of {aggregate.__name__}, and this is {step!r:.100}; "
                f"write when({aggregate.__name__}.method, ...)"
            )
        if inspect.ismethod(step):
            return _outcome_of(step, arguments, named)
        it = _run(Repository(aggregate, self._log).find(id)) or aggregate(id)
        return _outcome_of(step, (it, *arguments), named, it)

    def when_handled(
        self,
        message: Message | Envelope,
        *,
        by: Callable[..., Awaitable[Any]],
        provide: Mapping[Any, Any] | None = None,
    ) -> Outcome:
        """Runs a handler of a command, an event or a query, with what it asks for by type.

            given(Account, "a1").when_handled(OpenAccount(...), by=open_account).then(...)

        Repositories, Documents, the Envelope, the Outbox and the Session are made from what was
        given; `provide` supplies the rest, as in `Bus(provide=...)`. An event that was given keeps
        its stream and version.
        """
        envelope = self._envelope(message)
        check_given(envelope.message, Message, "when_handled(...)")
        return _run(self._handled(envelope, by, provide or {}))

    def project(self, projection: Projection[Any]) -> Folded:
        """Folds the given events, in order, into a projection's documents; with a `sink`, into rows
        in memory, whatever that sink is. Statements of SQL need their database."""
        if not isinstance(projection, Projection):
            raise AssertionError(
                f"project(...) takes a Projection, and this is {projection!r:.100}"
            )
        return _run(self._folded(projection))

    def _envelope(self, message: Message | Envelope) -> Envelope:
        if isinstance(message, Envelope):
            return message
        for envelope in reversed(self._events):
            if envelope.message == message:
                return envelope
        id = clock.new_id()
        return Envelope(message, id, clock.now(), id)

    async def _handled(
        self, envelope: Envelope, function: Callable[..., Awaitable[Any]], values: Mapping[Any, Any]
    ) -> Outcome:
        router = Router("given")
        getattr(router, _kind(envelope.message))(function)
        (handler,) = router.handlers
        if type(envelope.message) not in handler.messages:
            raise AssertionError(
                f"when_handled(..., by={name_of(function)}): it handles "
                f"{' and '.join(kind.__name__ for kind in handler.messages)}, and this is of type "
                f"{type(envelope.message).__name__}"
            )
        collections = MemoryCollections()
        self._check_read(views_of(handler), function)
        documents = {view: await self._stored(collections, view) for view in views_of(handler)}
        bound = bind(handler, Provided(values, documents))
        offered = _Offered(taken_by(repositories_of(handler)))
        session = MemorySession(collections.tables, ())
        work = UnitOfWork(envelope.id, "given", envelope, self._log, offered, session=session)
        for aggregate in repositories_of(handler):
            await snapshots.prepare(self._log, aggregate)
        try:
            result = await handled(lambda _: bound(work), session)
            if handler.kind != "query":
                await work.commit()
                session.commit()
        except Exception as error:
            return Outcome(error=error)
        wrote = {name: await documents_in(collections, name, ()) for name in session.collections}
        return Outcome(offered.events, offered.commands, result, wrote=wrote)

    def _check_read(self, views: Sequence[type], function: Callable[..., object]) -> None:
        """Raises: AssertionError if the handler reads none of the documents that were given."""
        if views and self._documents and not self._documents.keys() & {*views}:
            there, asked = (
                " and ".join(view.__name__ for view in some) for some in (self._documents, views)
            )
            raise AssertionError(
                f"when_handled(..., by={name_of(function)}): it reads documents of {asked}, and "
                f"those of {there} were given; give objects of the class that it asks for"
            )

    async def _stored(
        self, collections: MemoryCollections, view: type[BaseModel]
    ) -> Documents[Any]:
        """Returns the documents of a view, stored as its projection might have made them."""
        target = Target(view.__qualname__, view.__qualname__, versions_in_documents=False)
        writes = [
            Write(
                key, {"$set": {name: part for name, part in fields_of(doc).items() if name != "id"}}
            )
            for key, doc in self._documents.get(view, {}).items()
        ]
        await collections.prepare(target)
        await collections.writer(target, "given").transact([], partial(_written, writes))
        return Documents(collections.documents(target), view)

    async def _folded(self, projection: Projection[Any]) -> Folded:
        target = projection.target()
        if projection.sink is not None:
            place = MemoryPlace()
            await self._fold_into(SinkWriter(place, target), projection)
            return Folded(None, place.rows(target))
        collections = MemoryCollections()
        await collections.prepare(target)
        await self._fold_into(collections.writer(target, "given"), projection)
        found = await collections.documents(target).find({})
        return Folded(projection.view, {document.pop("_id"): document for document in found})

    async def _fold_into(self, writer: Writer, projection: Projection[Any]) -> None:
        for commit in self._commits:
            if commit.category in projection.categories:
                for envelope in envelopes_of(commit, projection.registry()):
                    await writer.transact([commit.stream], partial(_fold, projection, envelope))


class _Offered:
    """Takes what was stored, in place of the publisher."""

    sign = None

    def __init__(self, taken: Mapping[str, str]) -> None:
        self.signals = Signals()
        self.taken = taken
        self.events: list[Said] = []
        self.commands: list[Said] = []

    def offer(self, commits: Sequence[Commit], frames: Sequence[list[Frame]]) -> None:
        for commit in commits:
            self.events += [Said(e.name, e.schema, e.data) for e in commit.events]
            self.commands += [Said(c.name, c.schema, c.data) for c in commit.outgoing]


async def _written(writes: Sequence[Write], unit: ReadUnit) -> Changes:
    return Changes(writes, {})


async def _fold(projection: Projection[Any], envelope: Envelope, unit: ReadUnit) -> Changes:
    return Changes(await projection.changes(envelope, unit), {envelope.stream: envelope.version})


def _outcome_of(
    step: Callable[..., object],
    arguments: tuple[Any, ...],
    named: Mapping[str, Any],
    aggregate: Aggregate | None = None,
) -> Outcome:
    try:
        result: Any = step(*arguments, **named)
    except Exception as error:
        return Outcome(error=error)
    if inspect.isawaitable(result):
        result, failed = _run(_settled(result))
        if failed:
            return Outcome(error=failed)
    changed = aggregate or (result if isinstance(result, Aggregate) else None)
    return Outcome([Said.of(event) for event in changed.recorded] if changed else [], [], result)


async def _settled(result: Awaitable[Any]) -> tuple[Any, Exception | None]:
    try:
        return await result, None
    except Exception as error:
        return None, error


def _kind(message: Message) -> Kind:
    if isinstance(message, Command):
        return "command"
    return "query" if isinstance(message, Query) else "event"


def _run(running: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs to the end in a new event loop; in a running one, without waiting for anything."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(running)
    try:
        running.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    running.close()
    raise AssertionError(
        "the handler waits for something that was not given; provide a stand-in for it, or write "
        "the test as a plain `def`, in which handlers may wait"
    )
