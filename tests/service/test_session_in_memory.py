import pytest

from bus import Bus, ConfigurationError, Session, Settings
from bus.common import clock
from tests.service.mailing import Post
from tests.service.session_contract import RedeliveryContract, SessionContract


class Later(clock.Source):
    """A clock that a test sets forward."""

    ahead = 0.0

    def seconds(self) -> float:
        return super().seconds() + self.ahead


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    later = Later()
    monkeypatch.setattr(clock, "source", later)
    return later


class TestSessionInMemory(SessionContract, RedeliveryContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory(handled_for=3600)

    @pytest.fixture
    def other(self, bus: Bus) -> Bus:
        return bus

    @pytest.fixture(autouse=True)
    def _later(self, later: Later) -> None:
        self.clock = later

    async def forget(self, bus: Bus) -> None:
        self.clock.ahead += 3601

    async def test_a_mark_stands_for_the_window_and_no_longer(self, bus: Bus, post: Post) -> None:
        commit = await self.paid(bus)
        await self.handle(bus, commit)
        self.clock.ahead = 3500
        await self.handle(bus, commit)
        assert post.runs == 1
        self.clock.ahead = 3700
        await self.handle(bus, commit)
        assert post.runs == 2

    async def test_there_is_no_driver_in_memory(self, bus: Bus, post: Post) -> None:
        async def ask(session: Session) -> None:
            _ = session.native

        post.meanwhile = ask
        with pytest.raises(ConfigurationError, match="runs in memory"):
            await self.handle(bus, await self.paid(bus))
