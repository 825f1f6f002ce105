"""What a worker does with messages, on any pair of transport and stores."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from bus import Bus, NotCaughtUp, Projection, Receipt, Settings, Worker
from bus.codec import frames_of
from bus.common import clock
from bus.stores.event_log import Commit, Recorded
from bus.transports.base import MAX_BODY, Frame
from bus.transports.topology import event_topic
from tests.service.wallet import (
    Diary,
    GetWallet,
    Pay,
    Sum,
    SumUp,
    Thank,
    Totals,
    WalletView,
    build,
)
from tests.waiting import patience, until


def stray(body: bytes, name: str = "Paid", **headers: str | int) -> Frame:
    """A frame as somebody else might publish it."""
    stream = str(headers.get("stream", "wallet-x"))
    full: dict[str, str | int] = {"stream": stream, "version": 1, "schema": 1, **headers}
    topic = event_topic("wallet", name, stream)
    return Frame("events", topic, clock.new_id(), name, body, clock.now(), "c", full)


async def store_and_publish(bus: Bus, stream: str, *events: Recorded, first: int = 1) -> None:
    """Events as a process of this service would store and publish them, whatever they are."""
    runtime, id, category = bus.runtime, clock.new_id(), stream.partition("-")[0]
    commit = Commit(id, stream, category, first, events, clock.now(), id)
    await runtime.event_log.append([commit])
    assert await runtime.publisher.publish([commit], [frames_of(commit)]) == 1


class WalletService:
    """The wallets' bus and worker, for contracts of what they do.

    Subclasses give one fixture: `settings`, complete and with a database of its own.
    """

    @pytest.fixture
    def diary(self) -> Diary:
        return Diary()

    @pytest.fixture
    def make(self, settings: Settings, diary: Diary, unique: str) -> Callable[..., Bus]:
        return partial(build, settings, diary, unique)

    @pytest.fixture
    async def bus(self, make: Callable[..., Bus]) -> AsyncIterator[Bus]:
        async with make() as bus:
            yield bus

    @pytest.fixture
    async def worker(self, bus: Bus) -> AsyncIterator[Worker]:
        async with Worker(bus) as worker:
            yield worker

    async def dead_letters(self, bus: Bus, count: int) -> list[dict[str, Any]]:
        control = bus.runtime.control

        async def enough() -> list[dict[str, Any]]:
            found = await control.dead_letters()
            return found if len(found) >= count else []

        return await until(enough, f"{count} dead letters")  # type: ignore[no-any-return]


class DeliveryContract(WalletService):
    """What becomes of commands, events and queries."""

    async def test_a_command_ends_in_a_document(self, bus: Bus, worker: Worker) -> None:
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        found = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        assert found == WalletView(id="a", total=3)

    async def test_a_receipt_times_out_with_what_is_behind(self, bus: Bus) -> None:
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        started = time.monotonic()
        with pytest.raises(NotCaughtUp, match="version 1 of wallet-a is wanted, and it has 0"):
            await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=0.2)
        assert time.monotonic() - started < 4 * patience()

    async def test_a_receipt_that_came_through_http_waits_too(
        self, bus: Bus, worker: Worker
    ) -> None:
        token = (await bus.execute(Pay(wallet_id="a", amount=3))).token
        assert await bus.query(
            GetWallet(wallet_id="a"), after=Receipt.from_token(token), timeout=30
        )

    async def test_groups_and_different_values_include_what_a_receipt_tells_of(
        self, bus: Bus, worker: Worker
    ) -> None:
        for n, amount in enumerate((5, 7, 5, 1)):
            receipt = await bus.execute(Pay(wallet_id=f"w{n}", amount=amount))
            await bus.query(SumUp(), after=receipt, timeout=30)
        receipt = await bus.execute(Thank(wallet_id="w1"))
        rows = await bus.query(SumUp(at_least=2), after=receipt, timeout=30)
        assert rows == [
            Sum(thanks=None, wallets=2, total=10),
            Sum(thanks=1, wallets=1, total=7),
        ]
        receipt = await bus.execute(Pay(wallet_id="w3", amount=1))
        assert await bus.query(Totals(), after=receipt, timeout=30) == [2, 5, 7]

    async def test_marks_are_cleared_once_published(self, bus: Bus, worker: Worker) -> None:
        await asyncio.gather(*(bus.execute(Pay(wallet_id=f"w{n}", amount=1)) for n in range(50)))

        async def none_pending() -> bool:
            return not await bus.runtime.event_log.pending(clock.now(), 100)

        await until(none_pending, "marks are still pending")

    async def test_a_bad_message_is_kept_as_dead_letter_and_the_consumers_go_on(
        self, bus: Bus, worker: Worker
    ) -> None:
        bodies = [
            b"no json",
            b'{"amount":NaN}',
            b'{"amount":"many"}',
            b"[" * 5000 + b"]" * 5000,
            b'{"amount":' + b" " * (MAX_BODY - 12) + b"x}",
        ]
        frames = [stray(body, stream=f"wallet-x{n}") for n, body in enumerate(bodies)]
        frames.append(stray(b"{}", version=0))
        assert await bus.runtime.transport.publish(frames) == {}
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        letters = await self.dead_letters(bus, 12)
        assert {letter["queue"].partition(".")[2] for letter in letters} == {"wallets", "thanking"}
        assert {letter["error"] for letter in letters} == {"InvalidMessage"}
        assert all(letter["reason"] and letter["body"] for letter in letters)

    async def test_a_bad_copy_of_a_good_event_is_replaced_by_the_logs(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus:
            bus.runtime.publisher._open = False
            receipt = await bus.execute(Pay(wallet_id="a", amount=3))
            await bus.runtime.transport.publish([stray(b"torn", stream="wallet-a")])
            async with Worker(bus, only=["wallets"]):
                found = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        assert found == WalletView(id="a", total=3)

    async def test_an_event_of_unknown_name_only_counts_as_a_version(
        self, bus: Bus, worker: Worker
    ) -> None:
        await store_and_publish(bus, "wallet-u", Recorded("Unheard", 1, {}))
        target = {"wallet-u": 1}
        await bus.query(GetWallet(wallet_id="u"), after=Receipt("", target), timeout=30)
        assert await bus.runtime.control.dead_letters() == []

    async def test_duplicates_and_reordering_change_nothing(self, bus: Bus) -> None:
        receipts = [await bus.execute(Pay(wallet_id="a", amount=n)) for n in (1, 2, 3)]
        copies = [
            stray(b'{"amount":%d}' % n, stream="wallet-a", version=n) for n in (3, 1, 2, 2, 3, 1)
        ]
        await bus.runtime.transport.publish(copies)
        async with Worker(bus):
            found = await bus.query(GetWallet(wallet_id="a"), after=receipts[-1], timeout=30)
            assert found == WalletView(id="a", total=6)

    async def test_event_handlers_run_at_once_but_in_order_for_each_stream(
        self, make: Callable[..., Bus], diary: Diary
    ) -> None:
        diary.open.clear()
        async with make(time_limit=60.0) as bus, Worker(bus):
            for _ in range(5):
                await asyncio.gather(
                    *(bus.execute(Pay(wallet_id=f"w{n}", amount=1)) for n in range(20))
                )
            await until(lambda: diary.running == 8, "8 handlers at once")
            diary.open.set()
            await until(lambda: len(diary.seen) == 100, "100 events handled")
        assert diary.most_running == 8
        for n in range(20):
            assert [v for s, v in diary.seen if s == f"wallet-w{n}"] == [1, 2, 3, 4, 5]

    @pytest.mark.usefixtures("late_relay")
    async def test_what_a_handler_sends_is_carried_out_once_however_often_it_runs(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"))
        (commit,) = await bus.runtime.event_log.read("wallet-a", limit=1)
        copy = stray(b'{"amount":1,"mood":"grateful"}', stream="wallet-a")
        copies = [copy._replace(id=f"{commit.id}:1") for _ in range(5)]
        await bus.runtime.transport.publish(copies)
        await until(lambda: len(diary.seen) == 6, "6 runs of the handler")
        await bus.query(GetWallet(wallet_id="a"), after=Receipt("", {"wallet-a": 2}), timeout=30)
        await bus.send(Thank(wallet_id="a"), id="last")

        async def settled() -> bool:
            return bool(await bus.runtime.event_log.find("last"))

        await until(settled, "the queue of commands is not worked off")
        versions = [commit.last for commit in await bus.runtime.event_log.read("wallet-a")]
        assert versions == [1, 2, 3]

    async def test_a_command_sent_twice_is_carried_out_once(self, bus: Bus) -> None:
        for _ in range(3):
            assert await bus.send(Pay(wallet_id="a", amount=1), id="k1") == "k1"
        await bus.send(Pay(wallet_id="b", amount=1), id="k2")
        async with Worker(bus):
            await bus.query(
                GetWallet(wallet_id="b"), after=Receipt("", {"wallet-b": 1}), timeout=30
            )
            await bus.query(
                GetWallet(wallet_id="a"), after=Receipt("", {"wallet-a": 1}), timeout=30
            )
        assert len(await bus.runtime.event_log.read("wallet-a")) == 1

    async def test_a_stopping_worker_finishes_what_it_handles_and_leaves_the_rest(
        self, make: Callable[..., Bus], diary: Diary
    ) -> None:
        diary.open.clear()
        async with make(time_limit=60.0) as bus:
            for n in range(20):
                await bus.execute(Pay(wallet_id=f"w{n}", amount=1))
            async with Worker(bus) as worker:
                await until(lambda: diary.running == 8, "8 handlers at once")
                stopping = asyncio.create_task(worker.stop())
                await bus.execute(Pay(wallet_id="late", amount=1))
                for _ in range(10):
                    await asyncio.sleep(0.01)
                diary.open.set()
                await stopping
            assert diary.running == 0
            handled = len(diary.seen)
            assert handled == 8
            async with Worker(bus):
                await until(lambda: len(diary.seen) >= 21, "the rest is handled by the next worker")
            assert len(set(diary.seen)) == len(diary.seen) == 21

    async def test_a_parked_stream_is_tried_again_though_nothing_arrives(
        self, bus: Bus, diary: Diary
    ) -> None:
        (target,) = (
            s.of.target() for s in bus.runtime.subscriptions if isinstance(s.of, Projection)
        )

        async def parked() -> Any:
            return await bus.runtime.control.parked(target)

        async with Worker(bus):
            receipt = await bus.execute(Pay(wallet_id="a", amount=3, mood="unprojectable"))
            (one,) = await until(parked, "the stream to be parked")
            assert (one.message, one.error) == ("Paid", "ValueError")
            assert one.reason == "cannot be projected"
        diary.mended = True
        async with Worker(bus):
            found = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        assert found == WalletView(id="a", total=3)
