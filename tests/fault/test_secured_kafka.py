"""Kafka by TLS, as a user who may do what was granted: who is let in, who is kept out, and what is
told of it."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bus import DeadLetters, Settings, StoreUnavailable, Worker
from bus.errors import NotAllowed
from bus.kafka import KafkaFeed, KafkaTopic
from bus.kafka.topics import prepared
from tests.databases import drop
from tests.fault.certificates import Certificates
from tests.fault.secured_kafka import (
    CREATE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    READ,
    TOPIC,
    WRITE,
    Right,
    grant,
    secured,
    url_of,
)
from tests.service.feeding import are_as_folded, reports
from tests.service.sending import Pay, bank
from tests.waiting import problems, until
from tools.services.jars.kafka import KafkaNode

PASSWORDS = {"ada": "ada%secret", "bob": "bob-secret", "eve": "eve-secret"}


@pytest.fixture(scope="module")
def server(
    kafka_kind: type[KafkaNode],
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KafkaNode]:
    folder = tmp_path_factory.mktemp("secured") / "node"
    with secured(kafka_kind, folder, certificates, PASSWORDS) as node:
        yield node


def sends(topic: str) -> list[Right]:
    return [(TOPIC, topic, may) for may in (CREATE, DESCRIBE, DESCRIBE_CONFIGS, WRITE)]


def is_fed(topic: str, group: str) -> list[Right]:
    return [(TOPIC, topic, DESCRIBE), (TOPIC, topic, READ), (GROUP, group, READ)]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_events_go_and_come_by_tls_with_the_rights_that_docs_list(
    real_settings: Settings,
    mongo_url: str,
    server: KafkaNode,
    certificates: Certificates,
    unique: str,
    mechanism: str,
) -> None:
    options = f"cafile={certificates.authority}&mechanism={mechanism}"
    own = url_of(server, "ada", PASSWORDS["ada"], options)
    fed_by = url_of(server, "bob", PASSWORDS["bob"], options)
    await grant(server, "ada", sends(unique))
    await grant(server, "bob", is_fed(unique, f"{unique}fed"))
    other = real_settings.model_copy(update={"mongo_db": f"{unique}fed"})
    feed = KafkaFeed(unique, topic=unique, url=fed_by)
    try:
        sink = KafkaTopic(unique, url=own, partitions=2)
        owner, fed = bank(real_settings, unique, sink), reports(other, f"{unique}fed", feed)
        async with owner, fed, Worker(owner), Worker(fed):
            for amount in range(6):
                await owner.execute(Pay(account_id=f"a{amount % 2}", amount=amount))
            await until(lambda: are_as_folded(fed, owner), "the documents")
    finally:
        await drop(mongo_url, f"{unique}fed")


async def test_who_lacks_rights_waits_for_them_and_nothing_is_given_up(
    real_settings: Settings, server: KafkaNode, certificates: Certificates, unique: str
) -> None:
    url = url_of(server, "eve", PASSWORDS["eve"], f"cafile={certificates.authority}")
    sink = KafkaTopic(unique, url=url, partitions=2)
    with pytest.raises(NotAllowed, match=r"grant the URL's user.*Write on the topic, and Create"):
        await prepared(sink)
    await grant(server, "eve", [right for right in sends(unique) if right[2] != WRITE])
    await prepared(sink)
    async with bank(real_settings, unique, sink) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a0", amount=1))

        async def is_told() -> bool:
            return "does not allow this user" in str((await bus.health()).as_json())

        await until(is_told, "health to tell what is missing")
        assert await DeadLetters(bus).groups() == []
        await grant(server, "eve", sends(unique))

        async def is_well() -> bool:
            return not await problems(bus)

        await until(is_well, "the event to be sent")


@pytest.mark.parametrize(
    ("user", "password", "host", "options", "why"),
    [
        ("ada", "wrong-secret", "127.0.0.1", "authority", "does not let this user in"),
        ("nobody", "wrong-secret", "127.0.0.1", "authority", "check user, password and mech"),
        ("ada", PASSWORDS["ada"], "127.0.0.1", "stranger", "VERIFY_FAILED.*cafile= is the auth"),
        ("ada", PASSWORDS["ada"], "localhost", "authority", "Hostname mismatch.*host name which"),
        ("", "", "127.0.0.1", "authority", r"cannot be reached.*ask for TLS \(tls=true\), or for"),
    ],
)
async def test_who_is_kept_out_is_told_why_and_no_password_is_shown(
    server: KafkaNode,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    user: str,
    password: str,
    host: str,
    options: str,
    why: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    url = url_of(server, user, password, f"cafile={getattr(certificates, options)}")
    with pytest.raises(StoreUnavailable, match=f"(?s){why}") as caught:
        await prepared(KafkaTopic("any", url=url.replace("127.0.0.1", host)))
    assert "secret" not in str(caught.value)
    assert "secret" not in caplog.text


async def test_a_broker_that_asks_for_tls_gets_none_without_it(server: KafkaNode) -> None:
    with pytest.raises(StoreUnavailable, match="do they ask for TLS"):
        await prepared(KafkaTopic("any", url=f"kafka://ada:x@{server.address}"))


async def test_a_broker_whose_certificate_has_expired_gets_nothing(
    kafka_kind: type[KafkaNode], certificates: Certificates, tmp_path: Path
) -> None:
    expired = certificates._replace(server=certificates.expired)
    with secured(kafka_kind, tmp_path / "expired", expired, PASSWORDS) as node:
        url = url_of(node, "ada", PASSWORDS["ada"], f"cafile={certificates.authority}")
        with pytest.raises(StoreUnavailable, match=r"certificate has expired.*cafile= is the auth"):
            await prepared(KafkaTopic("any", url=url))


async def test_who_was_not_let_in_leaves_no_socket_behind(certificates: Certificates) -> None:
    """A broker that answers nonsense, and takes its time to say farewell by TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server)
    closed = []

    def answer(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                with context.wrap_socket(listening.accept()[0], server_side=True) as accepted:
                    accepted.recv(1000)
                    accepted.sendall(bytes(8))
                    assert accepted.recv(1000) == b""
                    time.sleep(0.2)
                    accepted.unwrap()
                    closed.append(accepted)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = asyncio.create_task(asyncio.to_thread(answer, listening))
        port = listening.getsockname()[1]
        url = f"kafka://127.0.0.1:{port}/?tls=true&cafile={certificates.authority}"
        with pytest.raises(StoreUnavailable):
            await prepared(KafkaTopic("any", url=url))
        await until(lambda: len(closed) == 2, "both have said farewell")
        listening.shutdown(socket.SHUT_RDWR)
        await answering


async def test_a_broker_may_ask_for_a_certificate_of_ours(
    kafka_kind: type[KafkaNode], certificates: Certificates, tmp_path: Path
) -> None:
    with secured(kafka_kind, tmp_path / "asking", certificates, PASSWORDS, asks=True) as node:
        await grant(node, "ada", sends("any"))
        trusts = f"cafile={certificates.authority}"
        shown = f"{trusts}&certfile={certificates.client}"
        url = url_of(node, "ada", PASSWORDS["ada"], shown)
        assert await prepared(KafkaTopic("any", url=url)) == []
        url = url_of(node, "ada", PASSWORDS["ada"], trusts)
        with pytest.raises(
            StoreUnavailable, match=r"cannot be reached.*certificate of ours \(certfile=\)"
        ):
            await prepared(KafkaTopic("any", url=url))


async def test_a_password_that_was_changed_needs_no_new_start_if_a_function_tells_it(
    real_settings: Settings,
    mongo_url: str,
    server: KafkaNode,
    certificates: Certificates,
    unique: str,
) -> None:
    known = {"ada": "old-secret", "bob": "old-secret"}
    options = f"cafile={certificates.authority}"
    await grant(server, "ada", sends(unique))
    await grant(server, "bob", is_fed(unique, f"{unique}fed"))
    sink = KafkaTopic(
        unique, url=lambda: url_of(server, "ada", known["ada"], options), partitions=2
    )
    feed = KafkaFeed(unique, topic=unique, url=lambda: url_of(server, "bob", known["bob"], options))
    other = real_settings.model_copy(update={"mongo_db": f"{unique}fed"})
    try:
        owner, fed = bank(real_settings, unique, sink), reports(other, f"{unique}fed", feed)
        async with owner, fed, Worker(owner), Worker(fed):
            await owner.execute(Pay(account_id="a0", amount=1))

            async def are_told() -> bool:
                each = [str((await bus.health()).as_json()) for bus in (owner, fed)]
                return all("does not let this user in" in said for said in each)

            await until(are_told, "health of both to tell that the password is wrong")
            known |= PASSWORDS
            await until(lambda: are_as_folded(fed, owner), "the documents")
            assert await DeadLetters(owner).groups() == await DeadLetters(fed).groups() == []
    finally:
        await drop(mongo_url, f"{unique}fed")
