from collections.abc import Callable
from functools import partial

import pytest

from bus import Bus
from tests.service.live_contract import LiveContract
from tests.service.rebuild_contract import service
from tests.service.shared import shared_settings


class TestLiveInMemory(LiveContract):
    @pytest.fixture
    def make(self, unique: str) -> Callable[..., Bus]:
        return partial(service, shared_settings(), unique)
