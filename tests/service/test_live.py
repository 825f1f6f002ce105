from collections.abc import Callable
from functools import partial

import pytest

from bus import Bus, Settings
from tests.service.live_contract import LiveContract
from tests.service.rebuild_contract import service


class TestLive(LiveContract):
    @pytest.fixture
    def make(self, real_settings: Settings, unique: str) -> Callable[..., Bus]:
        return partial(service, real_settings, unique)
