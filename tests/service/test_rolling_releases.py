import pytest

from bus import Settings
from tests.service.release_contract import ReleaseContract


class TestRelease(ReleaseContract):
    @pytest.fixture
    def ground(self, real_settings: Settings) -> Settings:
        return real_settings
