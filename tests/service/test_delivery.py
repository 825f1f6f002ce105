import pytest

from bus import Settings
from tests.service.delivery_contract import DeliveryContract


class TestDelivery(DeliveryContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings
