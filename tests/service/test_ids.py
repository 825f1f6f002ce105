import pytest

from bus import Settings
from tests.service.ids_contract import IdsContract


class TestIds(IdsContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings


class TestIdsInMemory(IdsContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()
