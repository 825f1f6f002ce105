"""Makes topics, and compares those that exist with their declaration."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from bus.common.urls import Url
from bus.errors import StoreUnavailable
from bus.kafka.failures import ABOUT_RIGHTS, SENDS, told
from bus.kafka.topic import KafkaTopic
from bus.kafka.urls import connection
from bus.observe.health import Finding, fault, fine, warning

MADE_WITHIN_MS = 10_000
PREPARED_WITHIN = 15.0
CLOSED_WITHIN = 1.0


async def prepared(sink: KafkaTopic) -> list[str]:
    """Makes the topic if it does not exist. Returns what differs from the declaration, each with
    its remedy. Raises: StoreUnavailable, NotAllowed, ConfigurationError."""
    with told(sink.where, SENDS):
        async with (
            asyncio.timeout(PREPARED_WITHIN),
            administering(sink.url, sink.where) as admin,
        ):
            found = await partitions_of(admin, sink.topic)
            if not found:
                await _make(admin, sink)
                found = await partitions_of(admin, sink.topic)
            return [
                *_other_partitions(sink, found),
                *_other_settings(sink, await _settings(admin, sink)),
            ]


async def examined(sink: KafkaTopic) -> list[Finding]:
    """Returns what differs from the declaration, and makes nothing. Raises: StoreUnavailable,
    NotAllowed, ConfigurationError."""
    with told(sink.where, SENDS):
        async with administering(sink.url, sink.where) as admin:
            found = await partitions_of(admin, sink.topic)
            if not found:
                missing = f"{sink.where}: there is no such topic yet"
                return [fault(missing, "start a worker, which makes it")]
            differing = [
                *_other_partitions(sink, found),
                *_other_settings(sink, await _settings(admin, sink)),
            ]
    return [fine(f"{sink.where}: {found} partitions"), *map(_differs, differing)]


def _differs(problem: str) -> Finding:
    what, _, remedy = problem.partition("; ")
    return warning(what, remedy)


@asynccontextmanager
async def administering(url: Url, where: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Lends a client for looking at topics, and making them. Others start after it, so that why no
    broker lets them in is told here."""
    options = connection(url, where)
    admin = AIOKafkaAdminClient(**options)
    try:
        try:
            await admin.start()
        except KafkaConnectionError as error:
            raise await _cause(options) or error from None
        yield admin
    finally:
        await admin.close()


async def _cause(options: Mapping[str, Any]) -> Exception | None:
    """Returns what hinders connections to brokers, of which a client says only that it failed."""
    asked = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    for place in options["bootstrap_servers"]:
        host, _, port = place.rpartition(":")
        tried = AIOKafkaConnection(host, int(port), **asked)
        try:
            await tried.connect()
        except (KafkaError, ssl.SSLError) as error:
            return error
        except OSError:  # nobody is there: another one may say more
            continue
        finally:
            await _closed(tried)
    return None


async def _closed(connection: AIOKafkaConnection) -> None:
    """Closes a connection, and waits until its socket is closed: to end TLS takes an answer, and
    who was not let in may end its event loop next."""
    ended = connection.close()
    if connection._protocol is not None:
        await asyncio.wait({ended}, timeout=CLOSED_WITHIN)


async def partitions_of(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Returns how many partitions a topic has; 0 if it does not exist."""
    every = await admin.list_topics()  # asked for by its name, a broker might make it
    if topic not in every:
        return 0
    (described,) = await admin.describe_topics([topic])
    if described["error_code"]:
        raise for_code(described["error_code"])(topic)
    return len(described["partitions"])


async def _make(admin: AIOKafkaAdminClient, sink: KafkaTopic) -> None:
    new = NewTopic(
        sink.topic,
        sink.partitions,
        -1 if sink.replicas is None else sink.replicas,
        # The client takes -1, the brokers' default, only beside a list, which may be empty.
        replica_assignments={} if sink.replicas is None else None,
        topic_configs=dict(sink.settings),
    )
    answer = await admin.create_topics([new], timeout_ms=MADE_WITHIN_MS)
    for name, code, *said in answer.topic_errors:
        error = for_code(code)
        if error in ABOUT_RIGHTS:
            raise error(name)
        if code and error is not TopicAlreadyExistsError:
            raise StoreUnavailable(
                f"{sink.where}: the topic cannot be made as declared: {error.__name__}, "
                f"{said[0] if said else ''}; correct its name, settings= or replicas="
            )


async def _settings(admin: AIOKafkaAdminClient, sink: KafkaTopic) -> dict[str, str]:
    wanted = ConfigResource(
        ConfigResourceType.TOPIC, sink.topic, configs=dict.fromkeys(sink.settings, "")
    )
    found: dict[str, str] = {}
    for response in await admin.describe_configs([wanted]):
        for code, _, _, _, entries in response.resources:
            if not code:  # else it may not be looked at, which hinders nobody
                found |= {entry[0]: entry[1] for entry in entries}
    return found


def _other_partitions(sink: KafkaTopic, found: int) -> Sequence[str]:
    if found == sink.partitions:
        return ()
    remedy = f"declare partitions={found}, or another topic, which is then filled from the start"
    if found > sink.partitions:
        remedy += "; until then the others stay empty, so that streams keep their order"
    return [
        f"{sink.where}: it has {found} partitions, and {sink.partitions} are declared; {remedy}"
    ]


def _other_settings(sink: KafkaTopic, found: Mapping[str, Any]) -> list[str]:
    return [
        f"{sink.where}: {name} is {found[name]}, and {wanted} is declared; change one of them "
        f"(kafka-configs --alter --topic {sink.topic} --add-config {name}={wanted})"
        for name, wanted in sink.settings.items()
        if name in found and str(found[name]) != wanted
    ]
