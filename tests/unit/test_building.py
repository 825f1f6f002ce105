"""What builds a bus for a world is called as `bus worker` calls it, or is told what it must be."""

from collections.abc import Callable
from typing import Any

import pytest

from bus import Bus, ConfigurationError, Settings
from bus.testing import chaos, memory_world


async def an_async_one(settings: Settings) -> Bus:
    return Bus("here", settings=settings)


def by_keyword(*, settings: Settings) -> Bus:
    return Bus("here", settings=settings)


def of_nothing() -> Bus:
    return Bus("here", settings=Settings.in_memory())


def of_two(settings: Settings, region: str) -> Bus:
    return Bus(region, settings=settings)


def forgetting(settings: Settings) -> None: ...


class Awaiting:
    async def __call__(self, settings: Settings) -> Bus:
        return Bus("here", settings=settings)


WRONG: list[tuple[Any, str]] = [
    (an_async_one, "an_async_one is an async function; write it as a plain `def`"),
    (Awaiting(), "Awaiting returned a coroutine; it must take Settings and return a Bus"),
    (of_nothing(), "take functions, and this is a Bus: give what builds the bus"),
    ("here:build", "take functions, and this is a str: give what builds the bus"),
    (None, "take functions, and this is None: give what builds the bus"),
    (of_nothing, "not made with the settings that it was given"),
    (of_two, r"of_two takes \(settings.*it is called with Settings alone"),
    (forgetting, "forgetting returned None; it must take Settings and return a Bus"),
]


@pytest.mark.parametrize("world", [chaos, memory_world])
@pytest.mark.parametrize(("build", "told"), WRONG)
async def test_what_cannot_build_a_bus_for_a_world_is_told(
    world: Callable[..., Any], build: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        async with world(build):
            pass


@pytest.mark.parametrize("world", [chaos, memory_world])
async def test_a_function_may_take_its_settings_by_keyword(world: Callable[..., Any]) -> None:
    async with world(by_keyword) as services:
        assert (await services.of("here").bus()).service == "here"
