"""The pytest plugin: settings in memory, fresh names, held time, and chaos with a printed seed.

`pytest_plugins = ["bus.testing.plugin"]` in a project's topmost conftest.py loads it. Its fixtures
are plain functions, so it needs no plugin for asyncio.
"""

import random
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from bus.settings import Settings
from bus.testing.chaos import chaos as in_chaos
from bus.testing.clock import HeldTime, ambient_source
from bus.testing.faults import Faults
from bus.testing.ground import shared_memory
from bus.testing.process import Build
from bus.testing.world import World

SEED: pytest.StashKey[int] = pytest.StashKey()

Chaos = Callable[..., AbstractAsyncContextManager[World]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("doubledecker").addoption(
        "--chaos-seed",
        type=int,
        help="draw the faults of `chaos` from this seed, as a failure said",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Says how to draw the same faults again."""
    report = yield
    seed = item.stash.get(SEED, None)
    if report.failed and seed is not None:
        report.sections.append(("chaos", f"repeat this with --chaos-seed={seed}"))
    return report


@pytest.fixture
def memory_settings() -> Settings:
    """Settings for buses that need nothing outside of this process, and meet each other."""
    return shared_memory()


@pytest.fixture
def unique_service() -> str:
    """A name that no other test has: for a service, its queues and its database."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def frozen_time() -> Iterator[HeldTime]:
    """Time stands still until `advance(seconds)`; ids and chance are the same in every run."""
    with ambient_source(HeldTime()) as held:
        yield held


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Chaos:
    """`bus.testing.chaos` with a seed of its own, which a failure prints."""
    given: int | None = request.config.getoption("--chaos-seed")
    seed = random.SystemRandom().randrange(10**6) if given is None else given
    request.node.stash[SEED] = seed

    def begin(*builds: Build, faults: Faults | None = None, **named: Any) -> Any:
        return in_chaos(*builds, faults=faults, **{"seed": seed, **named})

    return begin
