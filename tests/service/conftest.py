"""The job board, in memory and on the real services, with its worker, and its API."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import structlog

from bus import Bus, Settings, Worker
from handlers.app import build
from handlers.http import create_app
from tests import waiting

Condition = Callable[[], Awaitable[object]]
Until = Callable[[Condition, str], Awaitable[None]]


@pytest.fixture
def real_settings(request: pytest.FixtureRequest, unique: str) -> Settings:
    amqp, mongo = request.getfixturevalue("amqp_url"), request.getfixturevalue("mongo_url")
    return Settings(amqp_url=amqp, mongo_url=mongo, mongo_db=unique)


@pytest.fixture(autouse=True)
def patient_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that is to include what a receipt tells of waits longer than by default, on a machine
    that may be busy, unless the test says how long."""
    defaults = Bus.query.__kwdefaults__
    assert defaults
    assert "timeout" in defaults
    monkeypatch.setitem(defaults, "timeout", 30.0)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, real_settings: Settings) -> Settings:
    """Those of the real services, which commands read from the environment, too. They log as in a
    process of their own, whatever a test before this one has configured."""
    structlog.reset_defaults()
    for name in ("amqp_url", "mongo_url", "mongo_db"):
        monkeypatch.setenv(f"BUS_{name.upper()}", getattr(real_settings, name))
    return real_settings


@pytest.fixture(params=["memory", "real"])
def settings(request: pytest.FixtureRequest) -> Settings:
    if request.param == "memory":
        return Settings.in_memory()
    found: Settings = request.getfixturevalue("real_settings")
    return found


@pytest.fixture
async def idle(settings: Settings, unique: str) -> AsyncIterator[Bus]:
    """The job board without a worker: events are published, and nobody reads them yet."""
    async with build(settings, unique) as bus:
        yield bus


@pytest.fixture
async def bus(idle: Bus) -> AsyncIterator[Bus]:
    async with Worker(idle):
        yield idle


@pytest.fixture
async def api(bus: Bus) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(bus) as client:
        yield client


def client_of(bus: Bus) -> httpx.AsyncClient:
    """A client that waits for what a receipt tells of as long as it may."""
    transport, headers = httpx.ASGITransport(create_app(bus)), {"Prefer": "wait=30"}
    return httpx.AsyncClient(
        transport=transport, base_url="http://jobboard", headers=headers, timeout=60
    )


@pytest.fixture
def until() -> Until:
    """Waits for a condition; `missing` tells what did not come about in time."""

    async def wait(condition: Condition, missing: str, timeout: float = 20.0) -> None:
        await waiting.until(condition, missing, within=timeout)

    return wait


@pytest.fixture
async def real_api(real_settings: Settings, unique: str) -> AsyncIterator[httpx.AsyncClient]:
    async with build(real_settings, unique) as bus, Worker(bus), client_of(bus) as client:
        yield client
