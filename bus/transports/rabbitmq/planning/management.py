"""What the management API says: all there is, with messages, consumers and policies.

The user needs the tag `management`. Asked in a thread, because it is asked rarely, and the library
needs no dependency for it.
"""

import asyncio
import base64
import http.client
import json
from collections.abc import Iterable
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from bus.common.urls import tls_context
from bus.errors import ConfigurationError, TransportUnavailable
from bus.transports.rabbitmq.planning.entries import Entry, exchanges_in, mapping, queues_in
from bus.transports.rabbitmq.planning.found import Found, FoundPolicy, FoundQueue

TIMEOUT = 10.0
_PORTS = {"http": 15672, "https": 15671}


async def ask_management(url: str, vhost: str) -> Found:
    """Returns what the management API at `url` says of a virtual host.

    Raises: ConfigurationError if it is not there or refuses, TransportUnavailable.
    """
    return await asyncio.to_thread(_ask, url, vhost)


def _ask(url: str, vhost: str) -> Found:
    parts = urlsplit(url)
    where = f"the management API at {parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
    try:
        with closing(_connection(parts, where)) as connection:
            lists = [
                _get(connection, parts, f"{name}/{quote(vhost, safe='')}", where)
                for name in ("queues", "exchanges", "bindings")
            ]
    except (OSError, http.client.HTTPException) as error:
        raise TransportUnavailable(
            f"{where} does not answer: {error or type(error).__name__}; check BUS_MANAGEMENT_URL, "
            f"and that the plugin runs (rabbitmq-plugins enable rabbitmq_management)"
        ) from None
    return found_by(*lists, source=where)


def _connection(parts: SplitResult, where: str) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    context = tls_context(dict(parse_qsl(parts.query)), where)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)


def _get(
    connection: http.client.HTTPConnection, parts: SplitResult, resource: str, where: str
) -> Any:
    path = f"{parts.path.rstrip('/')}/api/{resource}"
    connection.request("GET", path, headers={"Authorization": _basic(parts)})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise _refused(where, path, answer.status)
    try:
        return json.loads(body)
    except ValueError:
        raise _refused(where, path, answer.status) from None


def _basic(parts: SplitResult) -> str:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _refused(where: str, path: str, status: int) -> ConfigurationError:
    remedies = {
        401: "check user and password in BUS_MANAGEMENT_URL, and that the user has the tag "
        "management: rabbitmqctl set_user_tags USER management",
        404: "the virtual host of BUS_AMQP_URL is not there, or the user of BUS_MANAGEMENT_URL "
        "has no permissions in it: rabbitmqctl set_permissions -p VHOST USER '' '' ''",
    }
    remedy = remedies.get(status, "is BUS_MANAGEMENT_URL that of RabbitMQ's management plugin?")
    return ConfigurationError(f"{where} answers {path} with {status}; {remedy}")


def found_by(
    queues: Iterable[Entry],
    exchanges: Iterable[Entry],
    bindings: Iterable[Entry],
    *,
    source: str,
) -> Found:
    """Returns what the API's lists of a virtual host say."""
    facts = {entry["name"]: entry for entry in queues}
    found = (_with_facts(queue, facts[queue.name]) for queue in queues_in(facts.values(), bindings))
    return Found(source, {queue.name: queue for queue in found}, exchanges_in(exchanges))


def _with_facts(queue: FoundQueue, entry: Entry) -> FoundQueue:
    names = (entry.get("policy"), entry.get("operator_policy"))
    return queue._replace(
        messages=entry.get("messages"),
        consumers=entry.get("consumers"),
        policy=FoundPolicy(
            ", ".join(name for name in names if name),
            mapping(entry, "effective_policy_definition"),
        ),
    )
