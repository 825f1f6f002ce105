"""Contracts: what a service's messages look like, as a document to be committed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticOmit

from bus.assembly.declarations import aggregates_of, events_of
from bus.assembly.runtime import HasRuntime, Runtime
from bus.data.payload import Document
from bus.declare.router import Handler
from bus.errors import ConfigurationError
from bus.messages import Command, Event, Fault, Message
from bus.write.unit_of_work import Outbox

FORMAT = 1


def contracts_of(bus: HasRuntime) -> Document:
    """Returns every message of a service as JSON Schema; needs neither broker nor database.

    `reads` is what the service accepts; `writes`, of events, is what others receive. Events of
    other services, which it only reads, are `followed` from them. If an aggregate and another
    reader have a class of the same name, the aggregate's is described.
    Raises: ConfigurationError for a message that JSON Schema cannot describe.
    """
    runtime = bus.runtime
    routers = list(runtime.routers.values())
    handlers = [handler for router in routers for handler in router.handlers]
    events: dict[str, type[Event]] = {}
    for event in events_of(routers, runtime.projections):
        events.setdefault(event.wire_name, event)
    queries = [handler for handler in handlers if handler.kind == "query"]
    followed = followed_events(runtime)
    return {
        "format": FORMAT,
        "service": runtime.service,
        "commands": {name: _command(kind) for name, kind in runtime.commands.items()},
        "events": {name: _event(kind, followed.get(name)) for name, kind in events.items()},
        "queries": {query.messages[0].wire_name: _query(query) for query in queries},
    }


def followed_events(runtime: Runtime) -> dict[str, list[str]]:
    """Returns the names of events that this service only reads, each with the services that may
    write it.

    An event that only a router handles may be one that this service publishes: it counts as
    another's only if nothing here records or publishes events.
    """
    owners = runtime.foreign.owners
    routers = list(runtime.routers.values())
    handlers = [handler for router in routers for handler in router.handlers]
    found: dict[str, set[str]] = defaultdict(set)
    own: set[str] = {Fault.wire_name}
    for aggregate in aggregates_of(routers, runtime.projections):
        names = {event.wire_name for event in aggregate.events().values()}
        if owner := owners.get(aggregate.category):
            for name in names:
                found[name].add(owner)
        else:
            own |= names
    for projection in runtime.projections:
        for event in projection.handlers:
            found[event.wire_name] |= {owners[c] for c in projection.categories if c in owners}
    asked = {dependency.kind for handler in handlers for dependency in handler.dependencies}
    if own == {Fault.wire_name} and Outbox not in asked:
        for handler in (handler for handler in handlers if handler.kind == "event"):
            for message in handler.messages:
                found[message.wire_name] = found[message.wire_name] or set(owners.values())
    return {name: sorted(by) for name, by in found.items() if by and name not in own}


class _Written(GenerateJsonSchema):
    """Describes events as they are written: with every field, and no computed one."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        if field["type"] == "typed-dict-field":
            return super().field_is_required(field, total)
        return "serialization_exclude_if" not in field

    def computed_field_schema(self, schema: Any) -> Any:
        raise PydanticOmit


def _command(kind: type[Command]) -> Document:
    return {**_versioned(kind), "reads": _schema(kind, _reads)}


def _event(kind: type[Event], followed: Sequence[str] | None) -> Document:
    described = {
        **_versioned(kind),
        "formerly": sorted(kind.former_names),
        "reads": _schema(kind, _reads),
    }
    if followed:
        return {**described, "followed": list(followed)}
    return {**described, "writes": _schema(kind, _writes)}


def _query(handler: Handler) -> Document:
    (kind,) = handler.messages
    described = {"reads": _schema(kind, _reads)}
    try:
        answer = TypeAdapter(handler.returns).json_schema(mode="serialization")
    except PydanticUserError:  # an answer never travels, so it need not be JSON
        return described
    return {**described, "answer": answer}


def _versioned(kind: type[Message]) -> Document:
    own, none = kind.upcast, Message.upcast
    return {
        "schema": kind.wire_schema,
        "upcast": own.__func__ is not none.__func__,  # type: ignore[attr-defined]
    }


def _reads(kind: type[Message]) -> Document:
    return kind.model_json_schema(by_alias=True, mode="validation")


def _writes(kind: type[Message]) -> Document:
    return kind.model_json_schema(by_alias=True, mode="serialization", schema_generator=_Written)


def _schema(kind: type[Message], of: Callable[[type[Message]], Document]) -> Document:
    try:
        return of(kind)
    except PydanticUserError as error:
        raise ConfigurationError(
            f"{kind.__module__}.{kind.__qualname__}{_without_schema(kind)} has no JSON Schema "
            f"({error.message}); declare it as data, or, where it is that, annotate it with "
            f"pydantic's WithJsonSchema"
        ) from None


def _without_schema(kind: type[Message]) -> str:
    """Returns ".FIELD" for the first field that has no JSON Schema."""
    for name, field in kind.model_fields.items():
        try:
            annotation: Any = field.annotation
            TypeAdapter(annotation).json_schema()
        except PydanticUserError:
            return f".{name}"
    return ""
