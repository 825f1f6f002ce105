import pytest

from bus import Settings
from tests.service.trust_contract import TrustContract


class TestTrust(TrustContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings


class TestTrustInMemory(TrustContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()
