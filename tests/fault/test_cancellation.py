"""Cancelled at every await: the cancellation comes out, nothing is half done, all goes on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus import Bus, Projection, Receipt, Settings, Worker
from bus.codec import envelopes_of
from bus.messages import Envelope
from bus.read.projector import Projector
from bus.testing import NO_FAULTS
from bus.testing.simulation.faults import Fate, Life
from bus.testing.simulation.ground import Ground
from bus.testing.simulation.process import ChaosSettings
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.topology import Topology, command_queue
from tests.fault.cancelling import cancelled_everywhere
from tests.service.wallet import Diary, GetWallet, Paid, Pay, WalletView, build
from tests.waiting import until


class Hesitant(Life):
    """Every call of the transport and the stores lets others run, before it and after it."""

    async def goes_on(self) -> None:
        await asyncio.sleep(0)
        await super().goes_on()

    async def risk(self, call: Any) -> Any:
        answer = await super().risk(call)
        await asyncio.sleep(0)
        return answer


@pytest.fixture
def in_memory() -> Settings:
    return ChaosSettings.of(Ground(), Hesitant(Fate(0, NO_FAULTS)))


@pytest.fixture(params=["in_memory", "real_settings"])
def settings(request: pytest.FixtureRequest) -> Settings:
    found: Settings = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def bus(settings: Settings, unique: str) -> AsyncIterator[Bus]:
    async with build(settings, Diary(), unique) as bus:
        yield bus


async def no_task_but(these: set[asyncio.Task[Any]]) -> None:
    """Waits until every other task has ended."""

    def left() -> str:
        return "; ".join(str(task) for task in asyncio.all_tasks() - these)

    try:
        await until(lambda: not left(), "tasks are left", within=8)
    except AssertionError:
        raise AssertionError(f"still running after 8 s: {left()}") from None


async def test_execute_cancelled_anywhere_is_settled_by_its_id(bus: Bus) -> None:
    count = 0

    async def start(nth: int) -> Receipt:
        return await bus.execute(Pay(wallet_id="a", amount=1), id=f"k{nth}")

    async for nth in cancelled_everywhere(start):
        receipt = await bus.execute(Pay(wallet_id="a", amount=1), id=f"k{nth}")
        assert receipt.versions == {"wallet-a": nth}
        count = nth
    assert count > 0
    commits = await bus.runtime.event_log.read("wallet-a")
    assert sorted(commit.id for commit in commits) == sorted(f"k{n + 1}" for n in range(count + 1))
    assert commits[-1].last == count + 1
    async with Worker(bus):
        found = await bus.query(
            GetWallet(wallet_id="a"), after=Receipt("", {"wallet-a": count}), timeout=30
        )
        await bus.query(
            GetWallet(wallet_id="a"), after=Receipt("", {"wallet-a": count + 1}), timeout=30
        )
    assert found is not None
    assert found.total >= count


async def test_query_cancelled_while_it_waits_leaves_nobody_waiting(bus: Bus) -> None:
    receipt = await bus.execute(Pay(wallet_id="a", amount=1))

    async def start(nth: int) -> WalletView | None:
        return await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)

    async with Worker(bus):
        async for _ in cancelled_everywhere(start):
            found = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
            assert found == WalletView(id="a", total=1)


async def test_send_cancelled_anywhere_is_settled_by_its_id(bus: Bus) -> None:
    sent = []

    async def start(nth: int) -> str:
        sent.append(f"k{nth}")
        return await bus.send(Pay(wallet_id="a", amount=1), id=f"k{nth}")

    async for nth in cancelled_everywhere(start):
        await bus.send(Pay(wallet_id="a", amount=1), id=f"k{nth}")
    async with Worker(bus):
        after = Receipt("", {"wallet-a": len(sent)})
        found = await bus.query(GetWallet(wallet_id="a"), after=after, timeout=30)
    assert found == WalletView(id="a", total=len(sent))


async def test_a_bus_cancelled_while_it_opens_or_closes_leaves_no_task(in_memory: Settings) -> None:
    before = asyncio.all_tasks()

    async def start(nth: int) -> None:
        async with build(in_memory, Diary()) as bus:
            await bus.execute(Pay(wallet_id="a", amount=1), id=f"k{nth}")

    async for _ in cancelled_everywhere(start):
        await no_task_but(before)
    async with build(in_memory, Diary()) as bus, Worker(bus):
        commits = await bus.runtime.event_log.read("wallet-a")
        after = Receipt("", {"wallet-a": commits[-1].last})
        found = await bus.query(GetWallet(wallet_id="a"), after=after, timeout=30)
    assert found == WalletView(id="a", total=len(commits))


async def test_a_worker_cancelled_while_it_runs_or_stops_leaves_no_task_and_loses_nothing(
    in_memory: Settings,
) -> None:
    last = Receipt("", {})
    async with build(in_memory, Diary()) as bus:
        before = asyncio.all_tasks()

        async def start(nth: int) -> None:
            nonlocal last
            async with Worker(bus):
                last = await bus.execute(Pay(wallet_id="a", amount=1))

        async for _ in cancelled_everywhere(start):
            await no_task_but(before)
        async with Worker(bus):
            found = await bus.query(GetWallet(wallet_id="a"), after=last, timeout=30)
    assert found == WalletView(id="a", total=last.versions["wallet-a"])


async def test_a_worker_whose_stop_is_cancelled_does_not_wait_for_its_handlers(
    in_memory: Settings,
) -> None:
    diary = Diary()
    diary.open.clear()
    async with build(in_memory, diary) as bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        before = asyncio.all_tasks()
        for waits in range(1, 7):
            worker = await Worker(bus).__aenter__()
            await until(lambda: diary.running, "the handler runs")
            stopping = asyncio.create_task(worker.stop())
            for _ in range(waits):
                await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait([stopping])
            await no_task_but(before)
    assert diary.running == 0


async def test_rabbitmq_cancelled_while_it_is_left_leaves_no_task(
    amqp_url: str, unique: str
) -> None:
    before = asyncio.all_tasks()
    transport = await consuming(amqp_url, unique)

    async def start(nth: int) -> None:
        await transport.close()

    async for _ in cancelled_everywhere(start):
        await no_task_but(before)
        transport = await consuming(amqp_url, unique)
    await no_task_but(before)


async def test_a_consumer_cancelled_while_it_begins_does_not_stay_at_rabbitmq(
    amqp_url: str, unique: str
) -> None:
    transport = await consuming(amqp_url, unique)
    before = asyncio.all_tasks()

    async def start(nth: int) -> None:
        await (await transport.inbox(f"{unique}.commands", prefetch=1)).close()

    async for _ in cancelled_everywhere(start):
        await no_task_but(before)
    await transport.close()


async def consuming(amqp_url: str, unique: str) -> RabbitTransport:
    """A transport with a consumer."""
    transport = RabbitTransport([amqp_url], service=unique)
    await transport.open()
    await transport.declare(Topology(unique, (command_queue(unique),)))
    await transport.inbox(f"{unique}.commands", prefetch=1)
    return transport


async def test_a_batch_cancelled_anywhere_is_applied_once_when_it_comes_again(bus: Bus) -> None:
    (projection,) = (s.of for s in bus.runtime.subscriptions if isinstance(s.of, Projection))
    runtime = bus.runtime
    projector = Projector(
        projection, projection.target(), runtime.event_log, runtime.collections, runtime.control,
        runtime.collections.writer(projection.target(), "queue"),
    )  # fmt: skip
    await projector.take_over()
    paid = 0

    async def batch() -> list[Envelope]:
        nonlocal paid
        for wallet in ("a", "b"):
            await bus.execute(Pay(wallet_id=wallet, amount=1))
        paid += 1
        return [
            envelope
            for wallet in ("a", "b")
            for commit in await runtime.event_log.read(f"wallet-{wallet}", after=paid - 1)
            for envelope in envelopes_of(commit, {"Paid": Paid})
        ]

    arrived = await batch()

    async def start(nth: int) -> object:
        return await projector.apply(arrived)

    async for _ in cancelled_everywhere(start):
        await projector.apply(arrived)
        for wallet in ("a", "b"):
            found = await bus.query(GetWallet(wallet_id=wallet))
            assert found == WalletView(id=wallet, total=paid)
        arrived = await batch()
    await projector.close()
    assert paid > 1
