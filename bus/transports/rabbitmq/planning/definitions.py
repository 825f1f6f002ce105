"""What a file of `rabbitmqctl export_definitions` says. Needs neither the broker nor a plugin.

It holds what was declared and which policies there are, and no messages or consumers.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bus.errors import ConfigurationError
from bus.transports.rabbitmq.planning.entries import Entry, exchanges_in, mapping, queues_in
from bus.transports.rabbitmq.planning.found import Found, FoundPolicy, FoundQueue, Unseen

_PARTS = ("queues", "exchanges", "bindings")
_OF_QUEUES = frozenset({"all", "queues"})
_BY_TYPE = {"quorum": "quorum_queues", "classic": "classic_queues", "stream": "streams"}

UNSEEN = (
    Unseen("messages and consumers", "an export has none; without --definitions they are counted"),
)


class _Policy(NamedTuple):
    name: str
    pattern: str
    apply_to: str
    priority: int
    definition: Mapping[str, Any]


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
    policies, operators = _policies(document, vhost)
    queues = (
        queue._replace(policy=_merged(_first(policies, queue), _first(operators, queue)))
        for queue in queues_in(_of(document["queues"], vhost), _of(document["bindings"], vhost))
    )
    return Found(
        f"the definitions in {file}",
        {queue.name: queue for queue in queues},
        exchanges_in(_of(document["exchanges"], vhost)),
        unseen=UNSEEN,
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


def _policies(
    document: Mapping[str, Any], vhost: str
) -> tuple[Sequence[_Policy], Sequence[_Policy]]:
    """Returns the policies, and the operator's policies, those of the highest priority first."""
    own = [_policy(entry["name"], entry) for entry in _of(document.get("policies", ()), vhost)]
    operators = [
        _policy(entry["name"], entry["value"])
        for entry in _of(document.get("parameters", ()), vhost)
        if entry.get("component") == "operator_policy"
    ]
    return _sorted(own), _sorted(operators)


def _sorted(policies: Iterable[_Policy]) -> list[_Policy]:
    return sorted(policies, key=lambda policy: -policy.priority)


def _policy(name: str, entry: Entry) -> _Policy:
    apply_to, priority = entry.get("apply-to", "all"), entry.get("priority", 0)
    return _Policy(name, entry["pattern"], apply_to, priority, mapping(entry, "definition"))


def _first(policies: Iterable[_Policy], queue: FoundQueue) -> _Policy | None:
    """Returns the one that counts: RabbitMQ applies only one of each sort to a queue."""
    kind = (queue.arguments or {}).get("x-queue-type", "classic")
    to = _OF_QUEUES | {_BY_TYPE.get(kind, "")}
    matching = (p for p in policies if p.apply_to in to and re.search(p.pattern, queue.name))
    return next(matching, None)


def _merged(policy: _Policy | None, operator: _Policy | None) -> FoundPolicy:
    """Returns both in one: of two numbers RabbitMQ takes the smaller, otherwise the operator's."""
    definition: dict[str, Any] = dict(policy.definition) if policy else {}
    for key, value in (operator.definition if operator else {}).items():
        own = definition.get(key)
        both = isinstance(own, int) and isinstance(value, int)
        definition[key] = min(own, value) if both else value
    return FoundPolicy(", ".join(p.name for p in (policy, operator) if p), definition)
