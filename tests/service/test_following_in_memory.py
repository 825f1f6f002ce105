from collections.abc import Callable

import pytest

from bus import Bus, Settings
from bus.testing import shared_memory
from tests.service.following_contract import FollowingContract, bank, shop


class TestFollowingInMemory(FollowingContract):
    @pytest.fixture
    def make_bank(self, shared: Settings) -> Callable[..., Bus]:
        return lambda: bank(shared, "bank")

    @pytest.fixture
    def make_shop(self, shared: Settings) -> Callable[..., Bus]:
        def make(version: int = 1, partitions: int = 1, **named: float) -> Bus:
            settings = shared.model_copy(update=named)
            return shop(settings, "shop", "bank", version=version, partitions=partitions)

        return make

    @pytest.fixture
    def shared(self) -> Settings:
        return shared_memory()
