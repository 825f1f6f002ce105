"""Live queries, on any pair of transport and stores."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from bus import (
    Bus,
    ConfigurationError,
    Documents,
    Envelope,
    NotBuilt,
    NotCaughtUp,
    Query,
    Router,
    StoreUnavailable,
    Worker,
)
from bus.operate.projections import Projections
from bus.stores.collections import ChangeFeed, Target, Watchable
from tests.leaks import nothing_left
from tests.service.rebuild_contract import (
    BankView,
    CountPurses,
    GetBank,
    GetPurse,
    Pay,
    PurseView,
    paid_into,
)
from tests.waiting import patience, until


class Both(Query[tuple[int, int]]):
    """How many purses there are, and what the bank has."""


class Nothing(Query[int]):
    pass


class Fail(Query[int]):
    after: int


asking = Router("asking")


@asking.query
async def both(
    query: Both, purses: Documents[PurseView], banks: Documents[BankView]
) -> tuple[int, int]:
    bank = await banks.get("b")
    return await purses.count({}), bank.total if bank else 0


@asking.query
async def nothing(query: Nothing) -> int:
    return 0


@asking.query
async def fail(query: Fail, purses: Documents[PurseView]) -> int:
    count = await purses.count({})
    if count > query.after:
        raise ZeroDivisionError(count)
    return count


class Asked:
    """Middleware that counts the queries."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def __call__(self, envelope: Envelope, following: Any) -> Any:
        if isinstance(envelope.message, Query):
            self.times.append(time.monotonic())
        return await following(envelope)


class Feeds:
    """Stands for collections' `changes`: counts the feeds, and lets them fail."""

    def __init__(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Target] = []
        self.open = 0
        self.away = False
        self._changes = cast(Watchable, bus.runtime.collections).changes
        monkeypatch.setattr(bus.runtime.collections, "changes", self)

    def __call__(self, target: Target) -> "CountedFeed":
        self.opened.append(target)
        self.open += 1
        return CountedFeed(self, self._changes(target))


class CountedFeed:
    def __init__(self, feeds: Feeds, feed: ChangeFeed) -> None:
        self._feeds = feeds
        self._feed = feed

    async def changed(self) -> bool:
        if self._feeds.away:
            raise StoreUnavailable("away")
        return await self._feed.changed()

    async def close(self) -> None:
        self._feeds.open -= 1
        await self._feed.close()


@asynccontextmanager
async def watching(answers: AsyncGenerator[Any, None]) -> AsyncIterator[list[Any]]:
    """What has been answered so far."""
    seen: list[Any] = []

    async def watch() -> None:
        async with aclosing(answers):
            async for answer in answers:
                seen.append(answer)  # noqa: PERF401  (they are looked at while they come)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        yield seen
        task.cancel()


class LiveContract:
    """Subclasses give `make`: a bus of the purses, over the same broker and stores each time."""

    @pytest.fixture
    async def bus(self, make: Callable[..., Bus]) -> AsyncIterator[Bus]:
        async with nothing_left(), make(more=[asking]) as bus, Worker(bus):
            yield bus

    async def test_the_answer_comes_now_and_then_each_change_of_it(self, bus: Bus) -> None:
        answers = bus.watch(CountPurses())
        assert await anext(answers) == 0
        await paid_into(bus, 1)
        assert await asyncio.wait_for(anext(answers), 30) == 1
        await bus.execute(Pay(purse_id="another", amount=1))
        assert await asyncio.wait_for(anext(answers), 30) == 2
        await answers.aclose()

    async def test_what_changes_nothing_in_the_answer_is_no_answer(
        self, make: Callable[..., Bus]
    ) -> None:
        asked = Asked()
        async with make(middleware=[asked]) as bus, Worker(bus):
            await bus.query(CountPurses(), after=await paid_into(bus, 1), timeout=30)
            async with watching(bus.watch(GetPurse(purse_id="p0"))) as seen:
                await until(lambda: seen, "the first answer")
                times = len(asked.times)
                await bus.execute(Pay(purse_id="other", amount=1))
                await until(lambda: len(asked.times) > times, "it is asked again")
                await bus.execute(Pay(purse_id="p0", amount=4))
                await until(lambda: seen[-1].total == 5, "the second answer")
        assert [one.total for one in seen] == [1, 5]

    async def test_nothing_is_missed_between_the_first_answer_and_the_listening(
        self, bus: Bus
    ) -> None:
        """The change happens while the first answer is on its way, after it was read."""
        read, changed = asyncio.Event(), asyncio.Event()

        dispatcher = bus.runtime.dispatcher
        ask = dispatcher.ask

        async def late(envelope: Any) -> Any:
            answer = await ask(envelope)
            if not read.is_set():
                read.set()
                await changed.wait()
            return answer

        dispatcher.ask = late  # type: ignore[method-assign]
        async with watching(bus.watch(CountPurses())) as seen:
            await asyncio.wait_for(read.wait(), 30)
            await bus.query(CountPurses(), after=await paid_into(bus, 1))
            await asyncio.sleep(0.5)  # the change is told while the answer is on its way
            changed.set()
            await until(lambda: seen == [0, 1], "the change that came meanwhile")

    async def test_a_receipt_is_included_in_the_first_answer(self, bus: Bus) -> None:
        for number in range(1, 6):
            receipt = await bus.execute(Pay(purse_id=f"n{number}", amount=1))
            async with aclosing(bus.watch(CountPurses(), after=receipt, timeout=30)) as answers:
                assert await anext(answers) == number

    async def test_a_receipt_that_is_not_reached_in_time_is_told(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus:
            receipt = await paid_into(bus, 1)
            started = time.monotonic()
            with pytest.raises(NotCaughtUp, match="version 1 of purse-p0 is wanted"):
                await anext(bus.watch(CountPurses(), after=receipt, timeout=0.3))
            assert time.monotonic() - started < 4 * patience()

    async def test_it_is_asked_ten_times_a_second_at_most_and_never_while_nothing_changes(
        self, make: Callable[..., Bus]
    ) -> None:
        asked = Asked()
        made = make(more=[asking], middleware=[asked])
        async with made as bus, Worker(bus), watching(bus.watch(Both())) as seen:
            await until(lambda: seen, "the first answer")
            began = time.monotonic()
            paid = 0
            while (spent := time.monotonic() - began) < 2 or (spent < 60 and len(asked.times) < 6):
                await paid_into(bus, 3)
                paid += 3
                await asyncio.sleep(0.01)
            seconds = time.monotonic() - began
            await until(lambda: seen[-1] == (3, paid), "the last answer")
            assert 5 < len(asked.times) <= 10 * seconds + 2
            await until(lambda: time.monotonic() - asked.times[-1] > 1.5, "the asking ends")

    async def test_two_projections_are_watched_at_once(self, bus: Bus) -> None:
        async with watching(bus.watch(Both())) as seen:
            await paid_into(bus, 3, amount=2)
            await until(lambda: seen and seen[-1] == (3, 6), "both have changed")

    async def test_two_hundred_watchers_share_one_feed_which_ends_with_them(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feeds = Feeds(bus, monkeypatch)
        watchers = [bus.watch(CountPurses()) for _ in range(200)]
        assert await asyncio.gather(*map(anext, watchers)) == [0] * 200
        await paid_into(bus, 1)
        async with asyncio.timeout(30 * patience()):
            assert await asyncio.gather(*map(anext, watchers)) == [1] * 200
        assert len(feeds.opened) == 1
        for watcher in watchers:
            await watcher.aclose()
        await until(lambda: feeds.open == 0, "the feed has ended")

    async def test_a_consumer_that_breaks_out_of_the_loop_leaves_nothing(
        self, make: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with make() as bus:
            feeds = Feeds(bus, monkeypatch)
            async with nothing_left():
                async for _ in bus.watch(CountPurses()):
                    break
            assert (len(feeds.opened), feeds.open) == (1, 0)
            async for count in bus.watch(CountPurses()):
                assert count == 0
                break

    async def test_the_answers_end_with_the_bus(self, make: Callable[..., Bus]) -> None:
        async with nothing_left(), make() as bus:
            answers = bus.watch(CountPurses())
            assert await anext(answers) == 0
            waiting = asyncio.ensure_future(anext(answers, "ended"))
            await asyncio.sleep(0.1)
        assert await asyncio.wait_for(waiting, 30) == "ended"

    async def test_a_store_that_is_away_delays_and_ends_nothing(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feeds = Feeds(bus, monkeypatch)
        feeds.away = True
        async with watching(bus.watch(CountPurses())) as seen:
            await until(lambda: feeds.opened, "it tries")
            assert seen == []
            feeds.away = False
            await until(lambda: seen == [0], "the first answer")
            feeds.away = True
            await bus.query(CountPurses(), after=await paid_into(bus, 2), timeout=30)
            await asyncio.sleep(0.3)
            assert seen == [0]
            feeds.away = False
            await until(lambda: seen[-1] == 2, "the change of meanwhile")

    async def test_an_answer_that_the_store_cannot_give_now_comes_later(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused: list[Target] = []

        def away(target: Target) -> Any:
            refused.append(target)
            raise StoreUnavailable("away")

        async with watching(bus.watch(CountPurses())) as seen:
            await until(lambda: seen == [0], "the first answer")
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(bus.runtime.collections, "documents", away)
                await paid_into(bus, 2)
                await until(lambda: len(refused) > 1, "it asks, and asks again")
                assert seen == [0]
            await until(lambda: seen[-1] == 2, "the change of meanwhile")

    async def test_an_error_of_the_handler_reaches_the_caller(self, bus: Bus) -> None:
        async with aclosing(bus.watch(Fail(after=0))) as answers:
            assert await anext(answers) == 0
            await paid_into(bus, 1)
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(anext(answers), 30)

    async def test_a_query_that_reads_no_projection_cannot_be_watched(self, bus: Bus) -> None:
        with pytest.raises(ConfigurationError, match="Nothing cannot be watched"):
            bus.watch(Nothing())

    async def test_a_projection_that_is_being_built_is_told(self, make: Callable[..., Bus]) -> None:
        async with make(without_banks=True) as before, Worker(before):
            await paid_into(before, 3)
        async with make() as bus:
            with pytest.raises(NotBuilt, match="'banks' is being built"):
                await asyncio.wait_for(anext(bus.watch(GetBank())), 30)

    async def test_watchers_follow_when_readers_move_to_another_collection(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feeds = Feeds(bus, monkeypatch)
        async with watching(bus.watch(CountPurses())) as seen:
            await paid_into(bus, 3)
            await until(lambda: seen and seen[-1] == 3, "what there is")
            collection = await Projections(bus).rebuild("purses")
            await until(
                lambda: [one.collection for one in feeds.opened] == ["purses__v1", collection],
                "it listens to the new collection",
                within=60,
            )
            await until(lambda: feeds.open == 1, "it listens to the old one no more")
            await bus.execute(Pay(purse_id="after", amount=1))
            await until(lambda: seen[-1] == 4, "what happened after the switch")
        assert seen == sorted(seen)
