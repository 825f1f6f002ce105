"""Client certificates as users of RabbitMQ (SASL EXTERNAL), with the rights of docs/security.md."""

import asyncio
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from yarl import URL

from bus import DeadLetters, Settings, Worker
from bus.errors import TransportUnavailable
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.rabbitmq.connection import connect
from tests.fault.certificates import HERE, Authority
from tests.fault.least_rights import rights_of
from tests.servers import lent, revive
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import problems, until
from tools.services import RabbitMQNode
from tools.services.ports import free_ports

PLUGIN = "rabbitmq_auth_mechanism_ssl"
PATIENCE = 60.0


class Door(NamedTuple):
    """A broker that lets in by certificate alone, and two authorities, the first of them its."""

    node: RabbitMQNode
    port: int
    ours: Authority
    stranger: Authority

    def url(self, certificate: Path | None, *, external: bool = True) -> str:
        own = f"&certfile={certificate}&keyfile={certificate}" if certificate else ""
        auth = "&auth=external" if external else ""
        return f"amqps://{HERE}:{self.port}/?cafile={self.ours.file}{own}{auth}"

    async def user(self, name: str, rights: list[str]) -> str:
        """The URL of a user who has these rights, a certificate and no password."""
        for command in (
            ("add_user", name, secrets.token_hex(20)),
            ("clear_password", name),
            ("set_permissions", name, *rights),
        ):
            await asyncio.to_thread(self.node.control, *command)
        return self.url(self.ours.client(name))


@pytest.fixture(scope="module")
def door_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("external")
    ours, stranger = Authority(folder, "ours"), Authority(folder, "stranger")
    server = ours.server()
    (port,) = free_ports(1)
    lines = [
        f"listeners.ssl.1 = {HERE}:{port}",
        f"ssl_options.cacertfile = {ours.file}",
        f"ssl_options.certfile = {server}",
        f"ssl_options.keyfile = {server}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "auth_mechanisms.1 = EXTERNAL",
        "ssl_cert_login_from = common_name",
    ]
    with lent(RabbitMQNode(folder / "node", configuration=lines, plugins=[PLUGIN])) as node:
        yield Door(node, port, ours, stranger)


@pytest.fixture
def door(door_of_module: Door) -> Door:
    revive(door_of_module.node)
    return door_of_module


@pytest.fixture
async def settings(door: Door, real_settings: Settings, unique: str) -> dict[str, Settings]:
    """Of each user of the page; the queues are declared."""
    urls = {
        name: await door.user(f"{unique}-{number}", rights_of(name, unique))
        for number, name in enumerate(("who declares", "API", "worker"))
    }
    data = {"mongo_url": real_settings.mongo_url, "mongo_db": real_settings.mongo_db}
    more = {**data, "sweep_every": 1.0}
    async with build(Settings(amqp_url=urls["who declares"], **more), Diary(), unique):
        pass
    return {name: Settings(amqp_url=url, declare="never", **more) for name, url in urls.items()}


async def test_an_api_and_a_worker_sign_in_by_certificate_with_the_least_rights(
    settings: dict[str, Settings], unique: str
) -> None:
    diary = Diary()
    async with (
        build(settings["API"], Diary(), unique) as api,
        build(settings["worker"], diary, unique) as bus,
        Worker(bus),
    ):
        receipt = await api.execute(Pay(wallet_id="a", amount=3, mood="needs the ladder"))
        found = await api.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        assert found is not None
        assert found.total == 3
        assert (await api.request(Pay(wallet_id="a", amount=1), timeout=30)).result == 4
        await api.execute(Pay(wallet_id="b", amount=1, mood="rejects"))
        await until(lambda: ("wallet-a", 1) in diary.seen, "by way of the delay ladder", within=30)
        letters = DeadLetters(bus)

        async def given_up() -> bool:
            return len(await letters.list()) == 1

        await until(given_up, "one is given up")
        assert len((await letters.retry(all=True)).done) == 1


async def test_who_signed_in_by_certificate_does_so_again_after_the_broker_was_away(
    door: Door, settings: dict[str, Settings], unique: str
) -> None:
    diary = Diary()
    async with (
        build(settings["API"], Diary(), unique) as api,
        build(settings["worker"], diary, unique) as bus,
        Worker(bus),
    ):
        before = await api.execute(Pay(wallet_id="a", amount=1))
        assert await api.query(GetWallet(wallet_id="a"), after=before, timeout=30)
        await asyncio.to_thread(door.node.stop)
        meanwhile = await api.execute(Pay(wallet_id="a", amount=2))
        await asyncio.to_thread(door.node.start)
        found = await api.query(GetWallet(wallet_id="a"), after=meanwhile, timeout=60)
        assert found is not None
        assert found.total == 3
        await until(lambda: ("wallet-a", 2) in diary.seen, "what was recorded meanwhile", within=60)

        async def fine() -> bool:
            return not await problems(api) and not await problems(bus)

        await until(fine, "no problem is left", within=60)


async def test_a_renewed_certificate_counts_from_the_next_connection_on(
    door: Door, tmp_path: Path, unique: str
) -> None:
    certificate = tmp_path / "certificate"
    for name in ("former", "renewed"):
        await door.user(f"{unique}-{name}", [".*", ".*", ".*"])
    former, renewed = (door.ours.client(f"{unique}-{name}") for name in ("former", "renewed"))

    async def is_in(name: str) -> bool:
        return f"{unique}-{name}" in await asyncio.to_thread(
            door.node.control, "list_connections", "user"
        )

    shutil.copy(former, certificate)
    transport = RabbitTransport([door.url(certificate)], service=unique, connect_timeout=PATIENCE)
    try:
        await transport.open()
        await until(lambda: is_in("former"), "it is in as one user", within=60)
        shutil.copy(renewed, certificate)
        await asyncio.to_thread(door.node.control, "close_all_connections", "anew")
        await until(lambda: is_in("renewed"), "it is in as the other", within=60)
    finally:
        await transport.close()


class Case(NamedTuple):
    """Who is to be kept out, and what it is told."""

    name: str
    says: str
    by: str = "ours"
    expired: bool = False
    shows: bool = True
    external: bool = True


HUNG_UP = "(reset|closed|Broken pipe|lost).*certfile= and keyfile= are given .* valid and by an aut"
"""What is told where the broker's alert was lost, as it hangs up at once."""
CASES = [
    Case("a name that is no user", "ACCESS_REFUSED.*no user of the name in the certificate"),
    Case(
        "a certificate by a stranger",
        f"UNKNOWN_CA.*add that authority to the file of its ssl_options.cacertfile|{HUNG_UP}",
        by="stranger",
    ),
    Case(
        "an expired certificate",
        f"CERTIFICATE_EXPIRED.*certificate of certfile= has expired|{HUNG_UP}",
        expired=True,
    ),
    Case(
        "no certificate at all",
        f"CERTIFICATE_REQUIRED.*add certfile=FILE and keyfile=FILE|{HUNG_UP}",
        shows=False,
        external=False,
    ),
    Case("a password", "only by EXTERNAL; for auth=external it needs the plugin", external=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_who_is_kept_out_is_told_why(case: Case, door: Door, unique: str) -> None:
    authority: Authority = getattr(door, case.by)
    certificate = authority.client(unique, expired=case.expired) if case.shows else None
    url = door.url(certificate, external=case.external)
    with pytest.raises(TransportUnavailable, match=f"(?s){HERE}:{door.port}: .*({case.says})"):
        await connect(URL(url), PATIENCE)


async def test_a_stranger_does_not_become_a_user_by_taking_its_name(
    door: Door, unique: str
) -> None:
    await door.user(unique, [".*", ".*", ".*"])
    with pytest.raises(TransportUnavailable, match=r"UNKNOWN_CA|certfile="):
        await connect(URL(door.url(door.stranger.client(unique))), PATIENCE)


async def test_a_broker_that_knows_no_certificates_as_users_is_named(
    door: Door, tmp_path: Path, unique: str
) -> None:
    (port,) = free_ports(1)
    lines = [
        f"listeners.ssl.1 = {HERE}:{port}",
        *(line for line in door.node.configuration if line.startswith("ssl_options")),
    ]
    with lent(RabbitMQNode(tmp_path / "node", configuration=lines)):
        url = door.url(door.ours.client(unique)).replace(f":{door.port}/", f":{port}/")
        with pytest.raises(TransportUnavailable, match=r"only by .*PLAIN.*needs the plugin"):
            await connect(URL(url), PATIENCE)
