"""Queues, exchanges and bindings in RabbitMQ's JSON, which an export and the API share. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any

from bus.transports.rabbitmq.planning.found import FoundExchange, FoundQueue

Entry = Mapping[str, Any]


def exchanges_in(entries: Iterable[Entry]) -> dict[str, FoundExchange]:
    return {entry["name"]: _exchange(entry) for entry in entries}


def queues_in(queues: Iterable[Entry], bindings: Iterable[Entry]) -> list[FoundQueue]:
    """Returns the queues with their bindings; what else is known of them is the source's."""
    bound = _bindings_in(bindings)
    return [_queue(entry, frozenset(bound.get(entry["name"], ()))) for entry in queues]


def _exchange(entry: Entry) -> FoundExchange:
    return FoundExchange(
        entry["name"], entry["type"], entry["durable"], mapping(entry, "arguments")
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
    """Returns an object of an entry, which Erlang may write as an empty list if it is empty."""
    return entry.get(key) or {}
