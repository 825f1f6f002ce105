"""Router: a named list of handlers, filled by decorators. No I/O, and it knows no bus."""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, TypeVar

from bus.errors import ConfigurationError
from bus.messages import Command, Event, Message, Query
from bus.policies import DEFAULT, Retries, checked

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])
Kind = Literal["command", "event", "query"]

_BASES: dict[Kind, type[Message]] = {"command": Command, "event": Event, "query": Query}


class Handler(NamedTuple):
    """A function, the messages that it handles, and what its further parameters ask for."""

    kind: Kind
    router: str
    messages: tuple[type[Message], ...]
    function: Callable[..., Awaitable[Any]]
    dependencies: tuple[Any, ...]
    returns: Any

    @property
    def name(self) -> str:
        return name_of(self.function)


class Router:
    """A named list of handlers; two buses can share it.

    The name is the subscription of its event handlers, hence a durable queue: renaming the router
    starts a new queue, and leaves the old one with whatever it holds.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int = 16,
        retry: Retries = DEFAULT,
        time_limit: float = 300.0,
    ) -> None:
        """`concurrency` is how many of its event handlers a worker runs at once.

        `retry` says how often a worker tries its handlers of events and of queued commands: one
        policy, or one for each type of exception. A try that takes longer than `time_limit` seconds
        is cancelled and has failed, with TimeoutError.
        """
        if not name.isidentifier():
            raise ConfigurationError(
                f"Router({name!r}): the name becomes a queue's; use letters, digits, underscores"
            )
        self.name = name
        self.concurrency = concurrency
        self.retry = checked(retry, f"Router({name!r})")
        self.time_limit = time_limit
        self.handlers: list[Handler] = []

    def command(self, function: Function) -> Function:
        """Registers the one handler of a command: the type of its first parameter."""
        return self._add("command", function)

    def event(self, function: Function) -> Function:
        """Registers a handler with side effects for an event, or for a union of events.

        It runs at least once for each event; of one stream, one event at a time in a worker. What
        it writes through a `Session` happens exactly once.
        """
        return self._add("event", function)

    def query(self, function: Function) -> Function:
        """Registers the one handler of a query."""
        return self._add("query", function)

    def _add(self, kind: Kind, function: Function) -> Function:
        _check_async(kind, function)
        first, *others, returns = parameter_types(function)
        handler = Handler(
            kind, self.name, _messages(kind, function, first), function, tuple(others), returns
        )
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


def _check_async(kind: Kind, function: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"{name_of(function)}: a {kind} handler must be async; write `async def`"
        )


def parameter_types(function: Callable[..., Any]) -> list[Any]:
    """The types of a function's parameters, in order, and last that of its result.

    Raises: ConfigurationError for a parameter without a type, or one that cannot be read.
    """
    where = name_of(function)
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise ConfigurationError(
            f"{where}: {error}; types of handlers are read when they are registered, "
            f"so import or define them before"
        ) from error
    names = list(inspect.signature(function).parameters)
    if not names:
        raise ConfigurationError(f"{where}: its first parameter must be the message; add it")
    for name in names:
        if name not in hints:
            raise ConfigurationError(f"{where}: parameter {name!r} has no type; annotate it")
    return [*(hints[name] for name in names), hints.get("return")]


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def name_of(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", "?")
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"


def _messages(kind: Kind, function: Callable[..., Any], first: Any) -> tuple[type[Message], ...]:
    base = _BASES[kind]
    found = members(first)
    for member in found:
        if not (isinstance(member, type) and issubclass(member, base) and member is not base):
            raise ConfigurationError(
                f"{name_of(function)}: its first parameter is of type {member!r}; "
                f"a {kind} handler takes a subclass of {base.__name__}"
            )
    if kind != "event" and len(found) > 1:
        raise ConfigurationError(
            f"{name_of(function)}: a {kind} handler takes one {kind}, not a union; split it"
        )
    return found
