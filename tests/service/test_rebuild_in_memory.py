from collections.abc import Callable
from functools import partial

import pytest

from bus import Bus
from tests.service.audit_contract import AuditContract
from tests.service.rebuild_contract import RebuildContract, service
from tests.service.shared import shared_settings


@pytest.fixture
def make(unique: str) -> Callable[..., Bus]:
    return partial(service, shared_settings(), unique)


class TestRebuildInMemory(RebuildContract): ...


class TestAuditInMemory(AuditContract): ...
