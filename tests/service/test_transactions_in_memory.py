import pytest

from bus import Bus, Settings
from tests.service.transaction_contract import DeliveryContract, TransactionContract


class TestTransactionsInMemory(TransactionContract, DeliveryContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()

    @pytest.fixture
    def other(self, bus: Bus) -> Bus:
        return bus
