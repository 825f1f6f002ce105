"""Router: a named list of handlers, filled by decorators. No I/O; does not know the bus."""

import inspect
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

from bus.common.figures import Seconds, seconds, whole
from bus.common.signatures import Dependency, Signature, members, shown, signature_of, with_article
from bus.data.fields import adapter_of
from bus.data.limits import size_of
from bus.declare.policies import DEFAULT, Retries, checked
from bus.errors import ConfigurationError
from bus.messages import Command, Event, Message, Query

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])
Kind = Literal["command", "event", "query"]

MOST_NAME = 150
"""Bytes, which leave room in a queue's name for the service's name, fixed words and numbers."""
MOST_CONCURRENCY = 10_000
"""The most messages that a worker can hold at once (`BUS_PREFETCH`)."""

BASES: dict[Kind, type[Message]] = {"command": Command, "event": Event, "query": Query}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Handler:
    """A handler function, the messages that it handles, and its dependencies.

    `call` takes the message and the values of the dependencies, by position.
    """

    kind: Kind
    router: str
    name: str
    messages: tuple[type[Message], ...]
    function: Callable[..., Awaitable[Any]]
    call: Callable[..., Awaitable[Any]]
    dependencies: tuple[Dependency, ...]
    returns: Any


class Router:
    """A named list of handlers; several buses can share it.

        accounts = Router("accounts")

        @accounts.command
        async def open_account(command: OpenAccount, all: Repository[Account]) -> None: ...

    The name is the subscription of its event handlers and so names a durable queue: renaming the
    router starts a new queue, and the old one keeps what it holds until `bus topology apply
    --rename OLD=NEW` brings it over.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int = 16,
        retry: Retries = DEFAULT,
        time_limit: Seconds | None = 300.0,
    ) -> None:
        """`concurrency` is how many of its event handlers a worker runs at once.

        `retry` says how often a worker tries its handlers of events and of queued commands: one
        policy, or one for each type of exception. A try that takes longer than `time_limit`
        (seconds, or a timedelta; None for no limit) is cancelled and fails with TimeoutError.

        Raises: ConfigurationError for a value that is not valid.
        """
        where = f"Router({name!r:.100})"
        check_queue_name(name, f"{where}: the name becomes a queue's")
        self.name = name
        self.concurrency = whole(
            concurrency, f"{where}: concurrency", least=1, most=MOST_CONCURRENCY
        )
        self.retry = checked(retry, where)
        self.time_limit = _limit(time_limit, where)
        self.handlers: list[Handler] = []
        self.frozen_by = ""
        """The service whose bus was built with this router: a handler added later would not run."""

    def command(self, function: Function) -> Function:
        """Registers the one handler of a command, which is the type of its first parameter.

        Raises: ConfigurationError, as do `event` and `query`, for a function that cannot be one.
        """
        return self._add("command", function)

    def event(self, function: Function) -> Function:
        """Registers a handler with side effects for an event, or for a union of events.

        It runs at least once per event; a worker runs one event of a stream at a time. What it
        writes through a `Session` happens exactly once.
        """
        return self._add("event", function)

    def query(self, function: Function) -> Function:
        """Registers the one handler of a query, which is the type of its first parameter."""
        return self._add("query", function)

    def _add(self, kind: Kind, function: Function) -> Function:
        read = signature_of(function)
        _check_async(kind, read, function)
        if kind == "command":
            result_adapter(read.name, read.returns)
        handler = Handler(
            kind=kind,
            router=self.name,
            name=read.name,
            messages=_messages(kind, read),
            function=function,
            call=read.call,
            dependencies=read.dependencies,
            returns=read.returns,
        )
        check_not_frozen(handler.name, f"Router({self.name!r})", self.frozen_by)
        self._check_new(handler)
        self.handlers.append(handler)
        return function

    def _check_new(self, handler: Handler) -> None:
        for other in self.handlers:
            for message in set(other.messages) & set(handler.messages):
                raise ConfigurationError(
                    f"{handler.name}: {message.__name__} is handled by {other.name} in router "
                    f"{self.name!r} already; remove one"
                    + (", or put it into a router of its own" if handler.kind == "event" else "")
                )


def check_queue_name(name: Any, what: str) -> None:
    """Raises: ConfigurationError for a name that cannot be part of a queue's, at most 255 bytes."""
    if not (isinstance(name, str) and name.isidentifier()):
        raise ConfigurationError(f"{what}; use letters, digits, underscores")
    if size_of(name) > MOST_NAME:
        raise ConfigurationError(
            f"{what}, and has {size_of(name)} bytes; give it {MOST_NAME} bytes at most"
        )


def _limit(time_limit: Any, where: str) -> float:
    if time_limit is None or time_limit == math.inf:
        return math.inf
    return seconds(
        time_limit, f"{where}: time_limit", zero=False, otherwise=", or None for no limit"
    )


def result_adapter(handler: str, returns: Any) -> TypeAdapter[Any]:
    """Returns what writes and reads a command handler's results. Raises: ConfigurationError."""
    return adapter_of(Any if returns is None else returns, f"{handler}, what it returns")


def check_not_frozen(handler: str, place: str, service: str) -> None:
    """Raises: ConfigurationError for a handler added after the bus was built."""
    if service:
        raise ConfigurationError(
            f"{handler} comes too late: Bus({service!r}) was built with {place} before, and would "
            f"never run it; import the module of the handler before Bus(...) is called"
        )


def _check_async(kind: Kind, handler: Signature, function: Any) -> None:
    if handler.is_async:
        return
    if inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise ConfigurationError(
            f"{handler.name}: what its decorator makes of it is not async any more; write "
            f"`async def` for the function that the decorator returns, or leave the decorator out"
        )
    raise ConfigurationError(
        f"{handler.name}: {with_article(kind)} handler must be async; write `async def`"
    )


def _messages(kind: Kind, handler: Signature) -> tuple[type[Message], ...]:
    base = BASES[kind]
    found = members(handler.first)
    for member in found:
        if not (isinstance(member, type) and issubclass(member, base) and member is not base):
            raise ConfigurationError(
                f"{handler.name}: its first parameter is {shown(member)}; {with_article(kind)} "
                f"handler takes a subclass of {base.__name__}{_instead(member)}"
            )
    if kind != "event" and len(found) > 1:
        raise ConfigurationError(
            f"{handler.name}: a {kind} handler takes one {kind}, not a union; split it"
        )
    return found


def _instead(member: Any) -> str:
    """Names the decorator to use instead."""
    for kind, base in BASES.items():
        if isinstance(member, type) and issubclass(member, base) and member is not base:
            return f"; this is {with_article(kind)}, for `@router.{kind}`"
    return ""
