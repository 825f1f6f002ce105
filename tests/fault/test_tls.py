"""TLS to broker and database: what is let in, what is kept out, and what is told of it.

Both nodes ask for a client's certificate. Theirs names 127.0.0.1 and nothing else.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bus.errors import ConfigurationError, StoreUnavailable, TransportUnavailable
from bus.stores.mongo import MongoEventLog, connect
from bus.testing.contracts.transport_contract import event, take
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.topology import Topology, projection_queues
from tests.databases import lent_client
from tests.fault.certificates import HERE, Certificates
from tests.servers import lent
from tests.waiting import patience
from tools.services.mongodb import MongoNode
from tools.services.ports import free_ports
from tools.services.rabbitmq import RabbitMQNode


@pytest.fixture(scope="module")
def broker(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of its listener for TLS."""
    (port,) = free_ports(1)
    lines = [
        f"listeners.ssl.1 = {HERE}:{port}",
        f"ssl_options.cacertfile = {certificates.authority}",
        f"ssl_options.certfile = {certificates.server}",
        f"ssl_options.keyfile = {certificates.server}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    ]
    with lent(RabbitMQNode(tmp_path_factory.mktemp("rabbitmq"), configuration=lines)):
        yield port


@pytest.fixture(scope="module")
def database(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    flags = [
        "--tlsMode=requireTLS",
        f"--tlsCAFile={certificates.authority}",
        f"--tlsCertificateKeyFile={certificates.server}",
    ]
    options = f"&{mongo_options(certificates.authority, certificates.client)}"
    folder = tmp_path_factory.mktemp("mongodb")
    with lent(MongoNode(folder, flags=flags, url_options=options)) as node:
        yield node.port


@pytest.fixture
async def expired_server(certificates: Certificates) -> AsyncIterator[int]:
    """Gets as far as its certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.expired)
    server = await asyncio.start_server(lambda _, writer: writer.close(), HERE, 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


def amqp_options(authority: Path, client: Path | None) -> str:
    return f"cafile={authority}" + (f"&certfile={client}&keyfile={client}" if client else "")


def mongo_options(authority: Path, client: Path | None) -> str:
    own = f"&tlsCertificateKeyFile={client}" if client else ""
    return f"tls=true&tlsCAFile={authority}{own}"


class Case(NamedTuple):
    """A client that is to be kept out, or keeps out."""

    name: str
    says: str
    host: str = HERE
    authority: str = "authority"
    client: str | None = "client"
    expired: bool = False


CASES = [
    Case("another authority", "CERTIFICATE_VERIFY_FAILED.*self-signed", authority="stranger"),
    Case("another host name", "Hostname mismatch.*not valid for 'localhost'", host="localhost"),
    Case("an expired certificate", "certificate has expired", expired=True),
    Case("no certificate of its own", "CERTIFICATE_REQUIRED|reset|closed|Broken pipe", client=None),
]


def url(case: Case, scheme: str, port: int, certificates: Certificates) -> str:
    authority: Path = getattr(certificates, case.authority)
    client = certificates.client if case.client else None
    options = amqp_options if scheme == "amqps" else mongo_options
    return f"{scheme}://guest:guest@{case.host}:{port}/?{options(authority, client)}"


async def test_messages_travel_to_a_broker_whose_certificate_is_good(
    broker: int, certificates: Certificates, unique: str
) -> None:
    queue = projection_queues(unique, "board", ["job"], 1)[0]
    good = url(Case("", ""), "amqps", broker, certificates)
    transport = RabbitTransport([good], service=unique)
    try:
        await transport.open()
        await transport.declare(Topology(unique, (queue,)))
        frame = event(1, body=bytes(range(256)) * 2000)
        assert await transport.publish([frame], must_route=True) == {}
        inbox = await transport.inbox(queue.name, prefetch=1)
        assert [delivery.frame for delivery in await take(inbox, 1)] == [frame]
    finally:
        await transport.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_broker_is_kept_out(
    case: Case, broker: int, expired_server: int, certificates: Certificates, unique: str
) -> None:
    port, within = expired_server if case.expired else broker, 2 * patience()
    transport = RabbitTransport(
        [url(case, "amqps", port, certificates)], service=unique, connect_timeout=within
    )
    began = time.monotonic()
    try:
        with pytest.raises(
            TransportUnavailable, match=f"(?s)({case.says}).*(cafile= is|certfile=FILE)"
        ):
            await transport.open()
        assert time.monotonic() - began < within + 5 * patience()
    finally:
        await transport.close()


async def test_a_certificate_file_that_is_not_there_is_named(unique: str) -> None:
    transport = RabbitTransport(["amqps://h/?cafile=/no/such.pem"], service=unique)
    with pytest.raises(ConfigurationError, match=r"cafile=/no/such\.pem cannot be read"):
        await transport.open()
    with pytest.raises(ConfigurationError, match=r"/no/such\.pem cannot be read"):
        connect("mongodb://h/?tls=true&tlsCAFile=/no/such.pem")


async def test_commits_reach_a_database_whose_certificate_is_good(
    database: int, certificates: Certificates, unique: str
) -> None:
    options = mongo_options(certificates.authority, certificates.client)
    good = f"mongodb://{HERE}:{database}/?replicaSet=rs0&{options}"
    async with lent_client(connect(good)) as client:
        event_log = MongoEventLog(client, unique)
        await event_log.open()
        assert await event_log.find("nothing") == []
        await event_log.close()


async def test_a_database_is_kept_out(
    database: int, expired_server: int, certificates: Certificates, unique: str
) -> None:
    async def keeps_out(case: Case) -> None:
        port = expired_server if case.expired else database
        async with lent_client(connect(url(case, "mongodb", port, certificates))) as client:
            with pytest.raises(StoreUnavailable, match=f"(?s)({case.says}).*tlsCAFile="):
                await MongoEventLog(client, unique).open()

    began = time.monotonic()
    await asyncio.gather(*map(keeps_out, CASES))
    assert time.monotonic() - began < 8 * patience()
