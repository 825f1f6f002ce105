"""What a file of `rabbitmqctl export_definitions` says. Needs neither the broker nor a plugin.

It holds what was declared and which policies there are, and no messages or consumers.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from bus.errors import ConfigurationError
from bus.transports.rabbitmq.planning.found import (
    Entry,
    Found,
    FoundPolicy,
    FoundQueue,
    Unseen,
    exchanges_in,
    mapping,
    queues_in,
)

_PARTS = ("queues", "exchanges", "bindings")
_OF_QUEUES = frozenset({"all", "queues"})
_BY_TYPE = {"quorum": "quorum_queues", "classic": "classic_queues", "stream": "streams"}

UNSEEN = (
    Unseen("messages and consumers", "an export has none; without --definitions they are counted"),
)

_PCRE = (
    "its pattern is one that only RabbitMQ reads: see rabbitmqctl list_queues name policy "
    "operator_policy, or set BUS_MANAGEMENT_URL and leave out --definitions"
)
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "lower": "a-z",
    "space": r"\s",
    "upper": "A-Z",
    "word": r"\w",
    "xdigit": "0-9a-fA-F",
}
"""What stands in brackets for a class of POSIX, as in `[[:alpha:]]`, which Python does not know."""
_CLASS = re.compile(r"\[:(\^?\w+):\]")


def read_definitions(file: Path, vhost: str) -> Found:
    """Returns what a file says of a virtual host. Raises: ConfigurationError."""
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the definitions in {file} cannot be read: {error}; write them by "
            f"rabbitmqctl export_definitions {file}"
        ) from None
    return found_in(document, vhost, str(file))


def found_in(document: Any, vhost: str, file: str) -> Found:
    """Returns what exported definitions say of a virtual host. Raises: ConfigurationError."""
    if not isinstance(document, dict) or not all(part in document for part in _PARTS):
        raise ConfigurationError(
            f"{file} holds no definitions of RabbitMQ (no {', '.join(_PARTS)}); write them by "
            f"rabbitmqctl export_definitions {file}"
        )
    _check_vhost(document, vhost, file)
    policies = list(_of(document.get("policies", ()), vhost))
    operators = _operators(document, vhost)
    queues = (
        queue._replace(policy=policy_on(queue, policies, operators))
        for queue in queues_in(_of(document["queues"], vhost), _of(document["bindings"], vhost))
    )
    return Found(
        f"the definitions in {file}",
        {queue.name: queue for queue in queues},
        exchanges_in(_of(document["exchanges"], vhost)),
        unseen=(
            *UNSEEN,
            *(Unseen(f"policy {name}", _PCRE) for name in unread(policies, operators)),
        ),
    )


def _check_vhost(document: Mapping[str, Any], vhost: str, file: str) -> None:
    """An export of the whole broker lists its virtual hosts, that of a single one does not."""
    names = [entry.get("name") for entry in document.get("vhosts", ())]
    if names and vhost not in names:
        raise ConfigurationError(
            f"{file} has no virtual host {vhost!r}, which BUS_AMQP_URL names; it has "
            f"{', '.join(map(repr, names))}: export the right broker's, or correct the URL"
        )


def _of(entries: Iterable[Entry], vhost: str) -> Iterator[Entry]:
    return (entry for entry in entries if entry.get("vhost", vhost) == vhost)


def _operators(document: Mapping[str, Any], vhost: str) -> list[Entry]:
    """Returns the operators' policies, in the form of others."""
    parameters = _of(document.get("parameters", ()), vhost)
    return [
        {**entry["value"], "name": entry["name"]}
        for entry in parameters
        if entry.get("component") == "operator_policy"
    ]


def policy_on(
    queue: FoundQueue, policies: Iterable[Entry], operators: Iterable[Entry]
) -> FoundPolicy:
    """Returns what policies, and operators' policies, come to on a queue: of two numbers RabbitMQ
    takes the smaller, otherwise the operator's value."""
    policy, operator = _first(policies, queue), _first(operators, queue)
    definition: dict[str, Any] = dict(mapping(policy, "definition"))
    for key, value in mapping(operator, "definition").items():
        own = definition.get(key)
        both = isinstance(own, int) and isinstance(value, int)
        definition[key] = min(own, value) if both else value
    return FoundPolicy(", ".join(p["name"] for p in (policy, operator) if p), definition)


def _first(policies: Iterable[Entry], queue: FoundQueue) -> Entry:
    """Returns the one of the highest priority, because RabbitMQ applies only one of each sort to a
    queue; an empty one if none applies."""
    kind = (queue.arguments or {}).get("x-queue-type", "classic")
    to = _OF_QUEUES | {_BY_TYPE.get(kind, "")}
    matching = (
        policy
        for policy in policies
        if policy.get("apply-to", "all") in to
        and (pattern := _pattern(policy))
        and pattern.search(queue.name)
    )
    return max(matching, key=lambda policy: policy.get("priority", 0), default={})


def unread(*policies: Iterable[Entry]) -> list[str]:
    """Returns the names of policies whose patterns, in PCRE, mean nothing to Python."""
    return [policy["name"] for policy in chain(*policies) if _pattern(policy) is None]


def _pattern(policy: Entry) -> re.Pattern[str] | None:
    text = _CLASS.sub(lambda found: _CLASSES.get(found[1], found[0]), policy["pattern"])
    try:
        return None if _CLASS.search(text) else re.compile(text)
    except re.error:
        return None
