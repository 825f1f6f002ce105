"""Who waits for changes, or for freshness, outlives what fails meanwhile."""

import asyncio
from contextlib import aclosing
from typing import cast

import pytest

from bus import Bus, Settings, StoreUnavailable
from bus.stores.collections import ChangeFeed, Watchable
from tests.service.wallet import Diary, GetWallet, Pay, WalletView, build
from tests.waiting import until


class Failing:
    """A feed that fails at its second and third call, as nobody foresaw."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self._errors: list[BaseException | None] = [None, KeyError("x"), asyncio.CancelledError()]

    async def changed(self) -> bool:
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return await self._feed.changed()

    async def close(self) -> None:
        await self._feed.close()


@pytest.fixture
def bus(unique: str) -> Bus:
    return build(Settings.in_memory(), Diary(), unique)


async def test_a_watcher_outlives_a_feed_that_fails_as_nobody_foresaw(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    collections = cast(Watchable, bus.runtime.collections)
    changes = collections.changes
    monkeypatch.setattr(collections, "changes", lambda target: Failing(changes(target)))
    (wallets,) = bus.runtime.projections
    async with bus, aclosing(bus.watch(GetWallet(wallet_id="a"))) as answers:
        assert await anext(answers) is None
        following = asyncio.ensure_future(anext(answers))

        async def told() -> bool:
            return "loop changes of wallets" in [one.part for one in (await bus.health()).problems]

        await until(told, "health tells of the feed")
        await bus.execute(Pay(wallet_id="a", amount=3))
        events = await bus.runtime.event_log.read("wallet-a")
        target = wallets.target()
        await bus.runtime.projector(wallets, target, "test").apply_streams([events[0].stream])
        async with asyncio.timeout(30):
            assert await following == WalletView(id="a", total=3)

        async def is_over() -> bool:
            return not await told()

        await until(is_over, "health tells of it no more")


async def test_who_waits_for_freshness_is_told_where_the_question_is_cut_off(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(*_: object) -> dict[str, int]:
        raise asyncio.CancelledError

    async with bus:
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        monkeypatch.setattr(bus.runtime.collections, "versions", cut_off)
        with pytest.raises(StoreUnavailable, match="was cancelled; ask again"):
            await bus.query(GetWallet(wallet_id="a"), after=receipt)
