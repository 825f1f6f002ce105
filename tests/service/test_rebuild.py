from collections.abc import Callable
from functools import partial

import pytest

from bus import Bus, Settings
from tests.service.audit_contract import AuditContract
from tests.service.rebuild_contract import RebuildContract, service


class TestRebuild(RebuildContract):
    @pytest.fixture
    def make(self, real_settings: Settings, unique: str) -> Callable[..., Bus]:
        return partial(service, real_settings, unique)


class TestRebuildOfPartitions(RebuildContract):
    @pytest.fixture
    def make(self, real_settings: Settings, unique: str) -> Callable[..., Bus]:
        return partial(service, real_settings, unique, partitions=4)


class TestAudit(AuditContract):
    @pytest.fixture
    def make(self, real_settings: Settings, unique: str) -> Callable[..., Bus]:
        return partial(service, real_settings, unique)
