import pytest

from bus import Settings
from tests.service.delivery_contract import DeliveryContract


class TestDeliveryInMemory(DeliveryContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()
