"""What the management API says: all there is, with messages, consumers and policies.

The user needs the tag `management`; with `policymaker`, policies are seen as they are, and without
it as they were a few seconds ago, as counts of messages are. Asked in a thread, because it is asked
rarely, and that needs no dependency.
"""

import asyncio
import base64
import http.client
import json
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from bus.common.urls import TLS_REMEDY, tls_context
from bus.errors import ConfigurationError, TransportUnavailable
from bus.transports.rabbitmq.planning.definitions import policy_on, unread
from bus.transports.rabbitmq.planning.found import (
    Entry,
    Found,
    FoundPolicy,
    FoundQueue,
    exchanges_in,
    mapping,
    queues_in,
)

TIMEOUT = 10.0
_PORTS = {"http": 15672, "https": 15671}
Result = TypeVar("Result")


Ask = Callable[[http.client.HTTPConnection, SplitResult, str], Result]


async def ask_management(url: str, vhost: str) -> Found:
    """Returns what the management API at `url` says of a virtual host.

    Raises: ConfigurationError if it is not there or refuses, TransportUnavailable.
    """
    ask = partial(_found, vhost=quote(vhost, safe=""))
    return await asyncio.to_thread(_asked, url, ask)


def _asked(url: str, ask: Ask[Result]) -> Result:
    parts = urlsplit(url)
    where = f"the management API at {parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
    try:
        with closing(_connection(parts, where)) as connection:
            return ask(connection, parts, where)
    except ssl.SSLError as error:
        raise TransportUnavailable(
            f"{where} is not reached by TLS: {error}; {TLS_REMEDY} (in BUS_MANAGEMENT_URL, as in "
            f"https://user:password@host:15671?cafile=FILE), and that the port is the one for TLS"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise TransportUnavailable(
            f"{where} does not answer: {error or type(error).__name__}; check BUS_MANAGEMENT_URL, "
            f"and that the plugin runs (rabbitmq-plugins enable rabbitmq_management)"
        ) from None


async def nodes_by(url: str) -> list[Entry]:
    """Returns the nodes of the broker, by the management API at `url`; none if its user lacks the
    tag `monitoring`. Raises: ConfigurationError, TransportUnavailable."""
    return await asyncio.to_thread(_asked, url, _nodes)


def _nodes(connection: http.client.HTTPConnection, parts: SplitResult, where: str) -> list[Entry]:
    status, found = _answer(connection, parts, "nodes")
    if status == http.HTTPStatus.UNAUTHORIZED:
        _get(connection, parts, "whoami", where)  # which every user may ask that it knows
        return []
    if found is None:
        raise _refused(where, "nodes", status)
    return list(found)


def _found(
    connection: http.client.HTTPConnection, parts: SplitResult, where: str, *, vhost: str
) -> Found:
    lists = [
        _get(connection, parts, f"{name}/{vhost}", where)
        for name in ("queues", "exchanges", "bindings")
    ]
    policies = [
        _answer(connection, parts, f"{name}/{vhost}")[1]
        for name in ("policies", "operator-policies")
    ]
    return found_by(*lists, policies=None if None in policies else policies, source=where)


def _connection(parts: SplitResult, where: str) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    context = tls_context(dict(parse_qsl(parts.query)), where)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)


def _get(
    connection: http.client.HTTPConnection, parts: SplitResult, resource: str, where: str
) -> Any:
    status, found = _answer(connection, parts, resource)
    if found is None:
        raise _refused(where, resource, status)
    return found


def _answer(
    connection: http.client.HTTPConnection, parts: SplitResult, resource: str
) -> tuple[int, Any]:
    """Returns the status, and what was asked for; None if it was refused, or is not JSON."""
    path = f"{parts.path.rstrip('/')}/api/{resource}"
    connection.request("GET", path, headers={"Authorization": _basic(parts)})
    answer = connection.getresponse()
    body = answer.read()
    try:
        return answer.status, json.loads(body) if answer.status == http.HTTPStatus.OK else None
    except ValueError:
        return answer.status, None


def _basic(parts: SplitResult) -> str:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _refused(where: str, resource: str, status: int) -> ConfigurationError:
    remedies = {
        401: "check user and password in BUS_MANAGEMENT_URL, and that the user has the tag "
        "management: rabbitmqctl set_user_tags USER management",
        404: "the virtual host of BUS_AMQP_URL is not there, or the user of BUS_MANAGEMENT_URL "
        "has no permissions in it: rabbitmqctl set_permissions -p VHOST USER '' '' ''",
    }
    known = remedies if "/" in resource else {401: remedies[401]}  # else of no virtual host
    remedy = known.get(status, "is BUS_MANAGEMENT_URL that of RabbitMQ's management plugin?")
    return ConfigurationError(f"{where} answers /api/{resource} with {status}; {remedy}")


def found_by(
    queues: Iterable[Entry],
    exchanges: Iterable[Entry],
    bindings: Iterable[Entry],
    *,
    policies: Sequence[Sequence[Entry]] | None,
    source: str,
) -> Found:
    """Returns what the API's lists of a virtual host say. `policies` are those of users and those
    of operators, None if they cannot be read."""
    if policies and unread(*policies):
        policies = None
    facts = {entry["name"]: entry for entry in queues}
    found = (
        _counted(queue, facts[queue.name])._replace(
            policy=policy_on(queue, *policies) if policies else _former_policy(facts[queue.name])
        )
        for queue in queues_in(facts.values(), bindings)
    )
    return Found(source, {queue.name: queue for queue in found}, exchanges_in(exchanges))


def _counted(queue: FoundQueue, entry: Entry) -> FoundQueue:
    return queue._replace(
        messages=entry.get("messages"),
        consumers=entry.get("consumers"),
        delayed=entry.get("messages_delayed", 0),
    )


def _former_policy(entry: Entry) -> FoundPolicy:
    """Returns what policies came to when the queue was last measured."""
    names = (entry.get("policy"), entry.get("operator_policy"))
    definition = mapping(entry, "effective_policy_definition")
    return FoundPolicy(", ".join(name for name in names if name), definition)
