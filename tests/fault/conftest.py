"""What fault tests share: servers to be broken; how a recovery is measured, told and bounded."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import aio_pika
import pytest

from bus import Settings
from tests.databases import drop
from tests.fault.certificates import Certificates, made_in
from tests.servers import lent, revive
from tests.service.wallet import Diary
from tests.stores import asked
from tests.waiting import patience
from tools.services import MongoNode, RabbitMQNode
from tools.services.finding import MONGODB

Recovered = Callable[[str, float, float], None]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    with lent(RabbitMQNode(tmp_path_factory.mktemp("rabbitmq"))) as node:
        yield node


@pytest.fixture
def broker(broker_of_module: RabbitMQNode) -> RabbitMQNode:
    """A RabbitMQ of the module's own, which runs, whatever the test before has left."""
    revive(broker_of_module)
    return broker_of_module


@pytest.fixture(scope="module")
def managed_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    folder = tmp_path_factory.mktemp("managed")
    with lent(RabbitMQNode(folder, plugins=["rabbitmq_management"])) as node:
        yield node


@pytest.fixture
def managed(managed_of_module: RabbitMQNode) -> RabbitMQNode:
    """A broker of the module's own with the management API, which runs."""
    revive(managed_of_module)
    return managed_of_module


@pytest.fixture
def managed_settings(real_settings: Settings, managed: RabbitMQNode) -> Settings:
    urls = {"amqp_url": managed.url, "management_url": managed.management_url}
    return real_settings.model_copy(update=urls)


@pytest.fixture(scope="module")
def database_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoNode]:
    with lent(MongoNode(tmp_path_factory.mktemp("mongodb"))) as node:
        yield node


@pytest.fixture
def database(database_of_module: MongoNode) -> MongoNode:
    """A MongoDB of the module's own, which runs, whatever the test before has left."""
    revive(database_of_module)
    return database_of_module


@pytest.fixture(params=[MONGODB, *asked()])
async def store_settings(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[Settings]:
    """Settings for an empty database, on each of the stores in turn; the broker is in memory."""
    if request.param != MONGODB:
        url = request.getfixturevalue(f"{request.param}_url")
        yield Settings(amqp_url="memory://", mongo_url="", log_url=url)
        return
    url = request.getfixturevalue("mongo_url")
    yield Settings(amqp_url="memory://", mongo_url=url, mongo_db=unique)
    await drop(url, unique)


@asynccontextmanager
async def channel_of(broker: RabbitMQNode) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel past the bus."""
    async with await aio_pika.connect(broker.url) as connection, connection.channel() as channel:
        yield channel


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Recovered:
    """Notes how long a recovery took (seconds), and fails where it took longer than its bound,
    which is one for an idle machine."""

    def note(fault: str, seconds: float, bound: float) -> None:
        record_property(f"recovery_s: {fault}", round(seconds, 2))
        print(f"recovered from {fault} in {seconds:.2f} s")
        most = bound * patience()
        assert seconds <= most, f"{fault}: recovered in {seconds:.2f} s, not within {most:.2f} s"

    return note
