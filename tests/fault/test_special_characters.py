"""User, password and virtual host may hold any character: as docs/security.md says to write them.

That a password is shown nowhere is `test_credentials.py`.
"""

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from pymongo import MongoClient

from bus import Bus, ConfigurationError, Settings, TransportUnavailable
from bus.transports.rabbitmq import RabbitTransport
from tests.databases import guarded_node, url_of
from tests.service.wallet import Diary, Pay, build
from tools.services import RabbitMQNode
from tools.services.mongodb import MongoNode

SPECIAL = "a b+c%41%é語\\|'\"`~!@#$^&*()-_=[]{};:,.<>/?z"


def written(text: str) -> str:
    return quote(text, safe="")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoNode]:
    with guarded_node(tmp_path_factory.mktemp("guarded")) as node:
        yield node


async def control(node: RabbitMQNode, *arguments: str) -> None:
    await asyncio.to_thread(node.control, *arguments)


async def test_rabbitmq_lets_in_whom_the_url_names_with_every_special_character(
    broker: RabbitMQNode, mongo_url: str, unique: str
) -> None:
    name = f"{unique}{SPECIAL}"
    await control(broker, "add_user", name, SPECIAL)
    await control(broker, "add_vhost", name)
    await control(broker, "set_permissions", "-p", name, name, ".*", ".*", ".*")
    place = f"{broker.host}:{broker.port}/{written(name)}"
    url = f"amqp://{written(name)}:{written(SPECIAL)}@{place}"
    settings = Settings(amqp_url=f"{url},{url}", mongo_url=mongo_url, mongo_db=unique)
    async with build(settings, Diary(), unique) as bus:
        await bus.send(Pay(wallet_id="a", amount=1))
    for wrong in (quote_plus(SPECIAL), written(SPECIAL + "x")):
        transport = RabbitTransport(
            [f"amqp://{written(name)}:{wrong}@{place}"], service=unique, connect_timeout=5
        )
        with pytest.raises(TransportUnavailable, match=r"ACCESS_REFUSED.*a space is %20 then"):
            await transport.open()
        await transport.close()


async def test_mongodb_lets_in_whom_the_url_names_with_every_special_character(
    guarded: MongoNode, unique: str
) -> None:
    name = f"{unique}{SPECIAL}"
    with MongoClient[dict[str, Any]](url_of(guarded, "root", "root")) as client:
        client.admin.command("createUser", name, pwd=SPECIAL, roles=["readWriteAnyDatabase"])

    def bus_with(password: str) -> Bus:
        url = url_of(guarded, written(name), password)
        return build(Settings(amqp_url="memory://", mongo_url=url), Diary(), unique)

    async with bus_with(written(SPECIAL)) as bus:
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        assert receipt.versions == {"wallet-a": 1}
    with pytest.raises(ConfigurationError, match="a space is %20 then"):
        async with bus_with(written(SPECIAL + "x")):
            pass
