from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from bus import Bus, Settings
from tests.service.delivery_contract import DeliveryContract
from tests.service.failure_contract import FailureContract
from tests.service.wallet import Diary, build


class TestDelivery(DeliveryContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings


class TestFailures(FailureContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings


class TestDeliveryWithAClientOfTheServicesOwn(TestDelivery):
    """PyMongo's asynchronous client instead of motor's; the bus leaves it open."""

    @pytest.fixture
    async def client(self, mongo_url: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_url)
        async with client:
            yield client
            await client.admin.command("ping")

    @pytest.fixture
    def make(
        self,
        settings: Settings,
        diary: Diary,
        unique: str,
        client: AsyncMongoClient[dict[str, Any]],
    ) -> Callable[..., Bus]:
        return partial(build, settings, diary, unique, client=client)
