import pytest

from bus import Settings
from tests.service.delivery_contract import DeliveryContract
from tests.service.failure_contract import FailureContract


class TestDeliveryInMemory(DeliveryContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()


class TestFailuresInMemory(FailureContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()
