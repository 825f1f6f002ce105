"""The pytest plugin of Doubledecker: services in memory or real, held time, chaos with a seed.

pytest finds it wherever Doubledecker is installed. It is outside the package, and imports that only
when a fixture is used, so that other test runs start as fast as before. Its fixtures are plain
functions, so that they need no asyncio plugin.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bus.settings import Settings
    from bus.testing.clock import HeldTime
    from bus.testing.plugin import Chaos
    from bus.testing.simulation.process import Build

SEED: pytest.StashKey[int] = pytest.StashKey()
VARIABLES = ("BUS_AMQP_URL", "BUS_MONGO_URL")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("doubledecker")
    group.addoption(
        "--chaos-seed",
        type=int,
        help="draw the faults of `chaos` from this seed, as a failure said",
    )
    group.addoption(
        "--bus-services",
        choices=("memory", "real"),
        default="memory",
        help="what `bus_settings` stands for: a broker and stores in memory (the default), or the "
        "RabbitMQ and the MongoDB of BUS_AMQP_URL and BUS_MONGO_URL",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Ends a run at once if it could only fail."""
    if config.getoption("--bus-services") == "real" and (problem := _missing()):
        raise pytest.UsageError(f"--bus-services=real: {problem}")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Returns a header line if tests run on real servers."""
    is_real = config.getoption("--bus-services") == "real"
    return "bus services: real (BUS_AMQP_URL, BUS_MONGO_URL)" if is_real else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to a failure's report how to draw the same faults again."""
    report = yield
    seed = item.stash.get(SEED, None)
    if report.failed and seed is not None:
        report.sections.append(("chaos", f"repeat this with --chaos-seed={seed}"))
    return report


@pytest.fixture
def bus_settings(request: pytest.FixtureRequest) -> Settings:
    """Returns settings for the buses of a test: `memory_settings`, or `real_settings` with
    `--bus-services=real`."""
    chosen = request.config.getoption("--bus-services")
    settings: Settings = request.getfixturevalue(f"{chosen}_settings")
    return settings


@pytest.fixture(scope="session")
def bus_settings_factory(request: pytest.FixtureRequest) -> Iterator[Callable[[], Settings]]:
    """Returns a function that makes settings like `bus_settings`, for fixtures that live longer
    than a test.

    What services make with them is deleted at the end of the run.
    """
    if request.config.getoption("--bus-services") == "memory":
        from bus.testing.simulation.ground import shared_memory

        yield shared_memory
        return
    amqp_url, mongo_url = request.getfixturevalue("_real_urls")
    from bus.testing.real import real_services

    with ExitStack() as made:
        yield lambda: made.enter_context(real_services(amqp_url, mongo_url, _unique()))


@pytest.fixture
def memory_settings() -> Settings:
    """Returns settings for buses that need nothing outside this process and share one broker."""
    from bus.testing.simulation.ground import shared_memory

    return shared_memory()


@pytest.fixture
def real_settings(_real_urls: tuple[str, str], unique_service: str) -> Iterator[Settings]:
    """Yields settings for buses on the RabbitMQ and the MongoDB of BUS_AMQP_URL and BUS_MONGO_URL.

    Each service made with them gets a name unique to this test (see `bus.service`); its queues,
    exchanges and database are deleted afterwards.
    """
    from bus.testing.real import real_services

    with real_services(*_real_urls, unique_service) as settings:
        yield settings


@pytest.fixture(scope="session")
def _real_urls() -> tuple[str, str]:
    """Returns the URLs of the real servers, once they have answered."""
    from bus.testing.real import problem_of

    amqp_url, mongo_url = (os.environ.get(name, "") for name in VARIABLES)
    if problem := _missing() or problem_of(amqp_url, mongo_url):
        pytest.fail(f"tests on real services: {problem}", pytrace=False)
    return amqp_url, mongo_url


@pytest.fixture
def unique_service() -> str:
    """Returns a name that no other test has: for a service, its queues and its database."""
    return _unique()


@pytest.fixture
def frozen_time() -> Iterator[HeldTime]:
    """Stops the clock until `advance(seconds)`; ids and randomness are the same in every run."""
    from bus.testing.clock import HeldTime, ambient_source

    with ambient_source(HeldTime()) as held:
        yield held


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Chaos:
    """Returns `bus.testing.chaos` with a random seed, which a failure prints.

        async def test_nothing_is_lost(chaos):
            async with chaos(build) as world: ...

    `--chaos-seed` repeats a seed.
    """
    from bus.testing.simulation.chaos import chaos as in_chaos

    given: int | None = request.config.getoption("--chaos-seed")
    seed = random.SystemRandom().randrange(10**6) if given is None else given
    request.node.stash[SEED] = seed

    def begin(*builds: Build, **named: Any) -> Any:
        return in_chaos(*builds, **{"seed": seed, **named})

    return begin


def _unique() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


def _missing() -> str:
    """Describes which variables are not set, and what to do; returns "" if all are."""
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if not missing:
        return ""
    return (
        f"{' and '.join(missing)} not set; say where RabbitMQ and MongoDB are, as in "
        f"BUS_AMQP_URL=amqp://guest:guest@localhost/ and "
        f"BUS_MONGO_URL=mongodb://localhost:27017/?replicaSet=rs0, or leave --bus-services away"
    )
