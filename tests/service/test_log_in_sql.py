"""A service whose log is in SQL."""

from collections.abc import Callable

import pytest

from bus import Bus, ConfigurationError, Event, Router, Session, Settings
from tests.service.lifecycle_contract import LifecycleContract
from tests.service.wallet import Diary, build


class TestLifecycleWithItsLogInSQL(LifecycleContract):
    @pytest.fixture
    def make_with(self, diary: Diary, sql_url: str) -> Callable[..., Bus]:
        return lambda **changed: build(Settings.in_memory(log_url=sql_url, **changed), diary)


class Paid(Event):
    pass


def test_a_handler_with_a_session_is_refused_with_a_log_in_sql() -> None:
    router = Router("mails")

    @router.event
    async def on_paid(event: Paid, session: Session) -> None: ...

    url = "postgresql+asyncpg://localhost/mails"
    with pytest.raises(
        ConfigurationError, match=r"on_paid: parameter 'session': .* BUS_LOG_URL out"
    ):
        Bus("mails", routers=[router], settings=Settings.in_memory(log_url=url))
