"""Async unit tests run in virtual time: what waits for seconds takes none."""

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping

import pytest
import structlog

from tests.unit.virtual_time import VirtualLoop, virtual_time


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The mark `real_time` is for tests of sockets and threads."""
    if item.get_closest_marker("real_time"):
        return {"real time": asyncio.new_event_loop}
    return {"virtual time": VirtualLoop}


@pytest.fixture(autouse=True)
def _virtual_time(request: pytest.FixtureRequest) -> Iterator[None]:
    is_async = inspect.iscoroutinefunction(request.function)
    if not is_async or request.node.get_closest_marker("real_time"):
        yield
        return
    with virtual_time():
        yield


@pytest.fixture
def every_level() -> Iterator[None]:
    """Another test of this process may have left structlog set up for warnings alone."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)
