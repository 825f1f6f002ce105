"""What every test shares: the services that `bin/test` started, and names nobody else uses."""

import os
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from bus import Settings
from tests.databases import drop

pytest_plugins = ["bus.testing.plugin", "tests.examples", "tests.stores", "tests.unclosed"]


def _service(variable: str) -> str:
    url = os.environ.get(variable)
    if not url:
        pytest.fail(f"{variable} is not set: run the tests by bin/test, which starts the services")
    return url


@pytest.fixture(scope="session")
def amqp_url() -> str:
    return _service("BUS_AMQP_URL")


@pytest.fixture(scope="session")
def mongo_url() -> str:
    return _service("BUS_MONGO_URL")


@pytest.fixture
def unique() -> str:
    """A name that no other test has: for a service, its queues and its database."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def late_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay leaves commits alone for a minute. On a busy machine, one that is published already
    and not marked yet would be published again, which a test that counts deliveries would see."""
    monkeypatch.setattr("bus.write.relay.GRACE", timedelta(minutes=1))


@pytest.fixture
async def real_settings(amqp_url: str, mongo_url: str, unique: str) -> AsyncIterator[Settings]:
    """Settings for the real services, with a database that is dropped afterwards."""
    yield Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=unique)
    await drop(mongo_url, unique)
