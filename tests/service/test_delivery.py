from collections.abc import AsyncIterator

import pytest
from pymongo import AsyncMongoClient

from bus import Settings
from tests.service.delivery_contract import DeliveryContract


class TestDelivery(DeliveryContract):
    @pytest.fixture
    async def settings(self, amqp_url: str, mongo_url: str, unique: str) -> AsyncIterator[Settings]:
        yield Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=unique)
        async with AsyncMongoClient(mongo_url) as client:
            await client.drop_database(unique)
