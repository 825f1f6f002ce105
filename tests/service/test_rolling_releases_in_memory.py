import pytest

from bus import Settings
from tests.service.release_contract import ReleaseContract
from tests.service.shared import shared_settings


class TestReleaseInMemory(ReleaseContract):
    @pytest.fixture
    def ground(self) -> Settings:
        return shared_settings()
