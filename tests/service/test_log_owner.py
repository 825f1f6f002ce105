"""Whose a log in SQL is: one service's, with one place for what it keeps besides."""

from collections.abc import AsyncIterator

import pytest

from bus import Bus, ConfigurationError, Event, Router, Settings
from bus.operate.log_copy import LogCopy
from bus.operate.log_place import log_at
from tests.databases import drop


class Noted(Event):
    pass


def bus(settings: Settings, service: str = "bank") -> Bus:
    return Bus(service, routers=[Router("notes")], settings=settings)


@pytest.fixture
async def settings(mongo_url: str, sql_url: str, unique: str) -> AsyncIterator[Settings]:
    """A log in SQL beside a database of MongoDB, which nobody has used."""
    yield Settings(amqp_url="memory://", mongo_url=mongo_url, mongo_db=unique, log_url=sql_url)
    await drop(mongo_url, unique, f"{unique}_2")


def elsewhere(settings: Settings) -> Settings:
    """The same log, beside another database of MongoDB."""
    return settings.model_copy(update={"mongo_db": f"{settings.mongo_db}_2"})


def without(settings: Settings) -> Settings:
    """The same log, without MongoDB."""
    return settings.model_copy(update={"mongo_url": "", "mongo_db": ""})


async def used(settings: Settings, service: str = "bank") -> None:
    """A process of a service ran."""
    async with bus(settings, service) as it:
        await it.publish(Noted())


async def test_another_service_is_refused_the_log_with_both_names(settings: Settings) -> None:
    await used(settings)
    for others in (elsewhere(settings), without(settings)):
        with pytest.raises(
            ConfigurationError, match=r"Bus\('shop'\): .* of the service 'bank'.*BUS_LOG_URL"
        ):
            await used(others, "shop")
        with pytest.raises(ConfigurationError, match=r"Bus\('shop'\)"):
            async with bus(others, "shop").looking():
                pass
    await used(settings)


async def test_a_second_database_of_mongodb_is_refused_beside_the_log(settings: Settings) -> None:
    await used(settings)
    with pytest.raises(ConfigurationError, match=r"another database of MongoDB.* BUS_MONGO_DB"):
        await used(elsewhere(settings))
    with pytest.raises(ConfigurationError, match=r"in MongoDB.* BUS_MONGO_URL"):
        await used(without(settings))
    await used(settings)


async def test_mongodb_is_refused_beside_a_log_that_has_all_with_itself(
    settings: Settings,
) -> None:
    await used(without(settings))
    with pytest.raises(ConfigurationError, match=r"without BUS_MONGO_URL"):
        await used(settings)
    await used(without(settings))


async def test_who_only_looks_takes_no_log(settings: Settings) -> None:
    async with bus(settings, "shop").looking():
        pass
    await used(elsewhere(settings))
    async with bus(elsewhere(settings)).looking():
        pass


async def test_a_log_goes_to_a_renamed_service_and_to_another_place_by_a_claim(
    settings: Settings,
) -> None:
    await used(settings)
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        await bus(elsewhere(settings), "savings").claim("shop")
    await bus(elsewhere(settings), "savings").claim("bank")
    await used(elsewhere(settings), "savings")
    with pytest.raises(ConfigurationError, match="of the service 'savings'"):
        await used(settings)
    await bus(without(settings), "savings").claim("savings")
    await used(without(settings), "savings")


async def test_what_a_log_is_copied_to_belongs_to_its_service(settings: Settings) -> None:
    mongodb = settings.model_copy(update={"log_url": ""})
    await used(mongodb)
    async with (
        log_at(bus(mongodb), "mongodb", makes=False) as old,
        log_at(bus(mongodb), settings.log_url, makes=True) as new,
    ):
        await LogCopy("bank", old, new).finish()
    with pytest.raises(ConfigurationError, match="of the service 'bank'"):
        await used(elsewhere(settings), "shop")
    with pytest.raises(ConfigurationError, match="another database of MongoDB"):
        await used(elsewhere(settings))
    await used(settings)


async def test_no_log_is_copied_into_another_services(settings: Settings) -> None:
    async with bus(elsewhere(settings), "shop"):
        pass
    with pytest.raises(ConfigurationError, match=r"of the service 'shop'"):
        async with log_at(bus(settings), settings.log_url, makes=True):
            pass
    with pytest.raises(ConfigurationError, match=r"of the service 'shop'"):
        async with log_at(bus(settings), settings.log_url, makes=False):
            pass
