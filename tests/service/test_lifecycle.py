import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient

from bus import Bus, ConfigurationError, Settings, StoreUnavailable
from bus.stores.mongo import close
from tests.service.lifecycle_contract import LifecycleContract, pay
from tests.service.wallet import Diary, build
from tools.services.ports import free_ports

DRIVERS = [AsyncIOMotorClient, AsyncMongoClient]


@pytest.fixture
def settings(amqp_url: str, mongo_url: str, unique: str) -> Iterator[Settings]:
    yield Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=unique)
    with MongoClient[Any](mongo_url) as client:
        client.drop_database(unique)


class TestLifecycle(LifecycleContract):
    @pytest.fixture
    def make_with(self, settings: Settings, unique: str, diary: Diary) -> Callable[..., Bus]:
        return lambda **changed: build(settings.model_copy(update=changed), diary, unique)


class TestLifecycleWithPyMongosClient(LifecycleContract):
    @pytest.fixture
    def make_with(self, settings: Settings, unique: str, diary: Diary) -> Callable[..., Bus]:
        return lambda **changed: build(
            settings.model_copy(update=changed),
            diary,
            unique,
            client=lambda: AsyncMongoClient(settings.mongo_url),
        )


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_client_of_another_loop_is_refused_with_a_remedy(
    driver: Any, settings: Settings, unique: str
) -> None:
    client = driver(settings.mongo_url)
    bus = build(settings, None, unique, client=client)

    async def in_the_first_loop() -> int:
        total = await pay(bus, 1)
        await close(client)
        return total

    assert asyncio.run(in_the_first_loop()) == 1
    with pytest.raises(ConfigurationError, match=r"another event loop.*client=lambda: "):
        asyncio.run(pay(bus, 1))
    mended = build(settings, None, unique, client=lambda: driver(settings.mongo_url))
    assert [asyncio.run(pay(mended, 1)) for _ in range(2)] == [2, 3]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_client_that_is_closed_is_refused_with_a_remedy(
    driver: Any, settings: Settings, unique: str
) -> None:
    async def run() -> None:
        client = driver(settings.mongo_url)
        bus = build(settings, None, unique, client=client)
        async with bus:
            pass
        await close(client)
        async with bus:
            pass

    with pytest.raises(ConfigurationError, match=r"is closed.*client=lambda: "):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("client", "named"),
    [
        (lambda url: MongoClient(url, connect=False), "PyMongo's synchronous one"),
        (lambda url: lambda: MongoClient(url, connect=False), "PyMongo's synchronous one"),
        (lambda url: AsyncMongoClient(url)["db"], "AsyncDatabase"),
        (lambda url: AsyncIOMotorClient(url)["db"], "AsyncIOMotorDatabase"),
        (lambda url: _client, "an async function"),
        (lambda url: url, "str"),
        (lambda url: lambda: None, "NoneType"),
    ],
)
def test_what_is_no_asynchronous_client_is_refused(
    client: Any, named: str, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError, match=f"and not {named}$"):
        build(settings, client=client(settings.mongo_url))


async def _client() -> None:
    pass


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_opening_that_failed_is_tried_again(
    driver: Any, settings: Settings, unique: str
) -> None:
    (port,) = free_ports(1)
    away = f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=300"
    urls = [away, away, settings.mongo_url, settings.mongo_url]
    bus = build(settings, None, unique, client=lambda: driver(urls.pop(0)))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await bus.__aenter__()
    assert [await pay(bus, 1), await pay(bus, 1)] == [1, 2]
