from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError

from bus import Bus, ProjectionError, Session, Settings
from tests.service.pricing import Count, Probe, all_of, build
from tests.service.transaction_contract import DeliveryContract, TransactionContract


class TestDelivery(DeliveryContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings


class TestTransactions(TransactionContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        """The broker has no part in these."""
        return real_settings.model_copy(update={"amqp_url": "memory://"})

    async def test_what_the_driver_writes_in_the_session_belongs_to_it(
        self, bus: Bus, probe: Probe
    ) -> None:
        async def collide(session: Session) -> None:
            extra = session.database["extra"]
            await extra.insert_one({"_id": "x"}, session=session.native)
            if probe.runs == 1:
                await extra.insert_one({"_id": "x"}, session=session.native)

        probe.meanwhile = collide
        with pytest.raises(DuplicateKeyError):
            await bus.execute(Count(article="a"), id="k1")
        assert probe.runs == 1
        assert await all_of(bus, "extra") == []
        for _ in range(2):
            await bus.execute(Count(article="a"), id="k1")
        assert await all_of(bus, "extra") == [{"_id": "x"}]
        assert await all_of(bus, "stock") == [{"_id": "a", "left": 1}]

    async def test_an_error_of_the_driver_that_its_handler_swallows_is_told(
        self, bus: Bus, probe: Probe
    ) -> None:
        async def swallow(session: Session) -> None:
            for _ in range(2):
                with suppress(DuplicateKeyError):
                    await session.database["extra"].insert_one({"_id": "x"}, session=session.native)

        probe.meanwhile = swallow
        with pytest.raises(ProjectionError, match="swallowed"):
            await bus.execute(Count(article="a"), id="k1")
        assert probe.runs < 10
        assert await all_of(bus, "stock") == []
        assert await bus.runtime.event_log.find("k1") == []


class TestTransactionsWithAClientOfTheServicesOwn(TestTransactions):
    """PyMongo's asynchronous client instead of motor's."""

    @pytest.fixture
    async def client(self, mongo_url: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
        async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
            yield client

    @pytest.fixture
    def make(
        self,
        settings: Settings,
        probe: Probe,
        unique: str,
        client: AsyncMongoClient[dict[str, Any]],
    ) -> Callable[..., Bus]:
        return lambda **more: build(settings, probe, unique, client=client, **more)
