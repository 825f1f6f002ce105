"""What a source saw at the broker, and what it could not see; read from RabbitMQ's JSON, which an
export and the management API share. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class FoundExchange(NamedTuple):
    """An exchange. `kind` is None, and `arguments` empty, where only its existence can be seen.
    `refusal` is that of `FoundQueue`."""

    name: str
    kind: str | None = None
    durable: bool = True
    arguments: Mapping[str, Any] = {}
    refusal: str = ""
    auto_delete: bool = False
    internal: bool = False


class FoundPolicy(NamedTuple):
    """What all policies on one queue come to. `name` is that of the policy, and of the operator's
    policy behind a comma."""

    name: str
    definition: Mapping[str, Any]


NO_POLICY = FoundPolicy("", {})


class FoundQueue(NamedTuple):
    """A queue. None stands for what the source cannot see.

    `arguments` are as declared, `bindings` pairs of an exchange and a topic, without the one to the
    default exchange that every queue has. `messages` counts those that are out with consumers too,
    where the source can see them; `delayed` those that RabbitMQ itself holds back. `refusal` is
    what RabbitMQ said to a declaration, where that is how arguments were compared; empty if it
    agreed.
    """

    name: str
    messages: int | None = None
    consumers: int | None = None
    arguments: Mapping[str, Any] | None = None
    bindings: frozenset[tuple[str, str]] | None = None
    policy: FoundPolicy | None = None
    durable: bool = True
    auto_delete: bool = False
    refusal: str = ""
    delayed: int = 0


class Unseen(NamedTuple):
    """What a source could not look at, and how to have it looked at."""

    what: str
    remedy: str


class Found(NamedTuple):
    """What is in a virtual host, by name. `source` says in words where this is from.

    Where `is_whole`, all of its queues and exchanges are here, also those that nobody declares.
    `timeout` is the consumer_timeout of the broker in seconds, None if it is not known.
    """

    source: str
    queues: Mapping[str, FoundQueue]
    exchanges: Mapping[str, FoundExchange]
    is_whole: bool = True
    unseen: tuple[Unseen, ...] = ()
    timeout: float | None = None


Entry = Mapping[str, Any]


def exchanges_in(entries: Iterable[Entry]) -> dict[str, FoundExchange]:
    return {entry["name"]: _exchange(entry) for entry in entries}


def queues_in(queues: Iterable[Entry], bindings: Iterable[Entry]) -> list[FoundQueue]:
    """Returns the queues with their bindings; what else is known of them is the source's. Without
    those that are one connection's own, which go with it."""
    bound = _bindings_in(bindings)
    return [
        _queue(entry, frozenset(bound.get(entry["name"], ())))
        for entry in queues
        if not entry.get("exclusive")
    ]


def _exchange(entry: Entry) -> FoundExchange:
    return FoundExchange(
        entry["name"],
        entry["type"],
        entry["durable"],
        mapping(entry, "arguments"),
        auto_delete=entry.get("auto_delete", False),
        internal=entry.get("internal", False),
    )


def _queue(entry: Entry, bindings: frozenset[tuple[str, str]]) -> FoundQueue:
    return FoundQueue(
        entry["name"],
        arguments=mapping(entry, "arguments"),
        bindings=bindings,
        durable=entry["durable"],
        auto_delete=entry["auto_delete"],
    )


def _bindings_in(entries: Iterable[Entry]) -> dict[str, set[tuple[str, str]]]:
    """Returns an exchange and a topic for each binding, by queue; but those to the default
    exchange."""
    bound: dict[str, set[tuple[str, str]]] = {}
    for entry in entries:
        if entry["destination_type"] == "queue" and entry["source"]:
            pair = (entry["source"], entry["routing_key"])
            bound.setdefault(entry["destination"], set()).add(pair)
    return bound


def mapping(entry: Entry, key: str) -> Mapping[str, Any]:
    """Returns an object of an entry, which Erlang may write as a list of pairs."""
    return dict(entry.get(key) or ())
