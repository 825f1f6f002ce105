from collections.abc import Callable

import pytest

from bus import Bus, Settings
from tests.service.lifecycle_contract import LifecycleContract
from tests.service.wallet import Diary, build


class TestLifecycleInMemory(LifecycleContract):
    @pytest.fixture
    def make(self, diary: Diary) -> Callable[[], Bus]:
        return lambda: build(Settings.in_memory(), diary)
