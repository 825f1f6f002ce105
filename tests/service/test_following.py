from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bus import Bus, Settings
from tests.databases import drop
from tests.service.following_contract import FollowingContract, bank, shop


class TestFollowing(FollowingContract):
    @pytest.fixture
    async def named(
        self, amqp_url: str, mongo_url: str, unique: str
    ) -> AsyncIterator[dict[str, str]]:
        yield {"amqp_url": amqp_url, "mongo_url": mongo_url}
        await drop(mongo_url, f"{unique}_bank", f"{unique}_shop")

    @pytest.fixture
    def make_bank(self, named: dict[str, Any], unique: str) -> Callable[..., Bus]:
        return lambda: bank(Settings(**named), f"{unique}_bank")

    @pytest.fixture
    def make_shop(self, named: dict[str, Any], unique: str) -> Callable[..., Bus]:
        def make(version: int = 1, partitions: int = 1, **more: float) -> Bus:
            settings = Settings(**named, **more)
            name, owner = f"{unique}_shop", f"{unique}_bank"
            return shop(settings, name, owner, version=version, partitions=partitions)

        return make
