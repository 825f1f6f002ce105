"""What one bus of a module goes through: opened in loop after loop, and in several at once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bus import (
    Bus,
    BusError,
    ConfigurationError,
    DeadLetters,
    Event,
    Events,
    Projections,
    Receipt,
    StoreUnavailable,
    Worker,
)
from tests.service.wallet import Diary, GetWallet, Pay, WalletView
from tests.waiting import patience, until
from tools.services.ports import free_ports, wait_until


def app_of(bus: Bus, *, works: bool = True) -> FastAPI:
    """As people write it: the bus and its worker stand in a module, the lifespan enters them."""
    worker = Worker(bus)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not works:
            async with bus:
                yield
            return
        async with bus, worker:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/pay/{wallet_id}")
    async def pay(wallet_id: str, amount: int) -> dict[str, str]:
        receipt = await bus.execute(Pay(wallet_id=wallet_id, amount=amount, mood="grateful"))
        return {"receipt": receipt.token}

    @app.post("/request/{wallet_id}")
    async def request(wallet_id: str, amount: int) -> dict[str, Any]:
        receipt = await bus.request(Pay(wallet_id=wallet_id, amount=amount), timeout=20)
        return {"receipt": receipt.token, "total": receipt.result}

    @app.get("/wallets/{wallet_id}")
    async def wallet(wallet_id: str, receipt: str) -> WalletView | None:
        after = Receipt.from_token(receipt)
        return await bus.query(GetWallet(wallet_id=wallet_id), after=after, timeout=20)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return (await bus.health()).as_json()

    return app


def paid(client: TestClient, amount: int, wallet: str = "w") -> int:
    """Pays, and reads the total from the projection."""
    receipt = client.post(f"/pay/{wallet}?amount={amount}").raise_for_status().json()["receipt"]
    shown = client.get(f"/wallets/{wallet}", params={"receipt": receipt}).raise_for_status()
    return int(shown.json()["total"])


def is_ready(client: TestClient) -> bool:
    """Whether it gets ready: consumers take their time on a busy machine."""
    return wait_until(lambda: client.get("/health").json()["ready"], 60)


async def pay(bus: Bus, amount: int) -> int:
    async with bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="w", amount=amount))
        found = await bus.query(GetWallet(wallet_id="w"), after=receipt, timeout=20)
    return found.total if found else 0


class LifecycleContract:
    """`bus` was made outside of any event loop, as a module does; so was each of `make()`."""

    @pytest.fixture
    def diary(self) -> Diary:
        return Diary()

    @pytest.fixture
    def make_with(self) -> Callable[..., Bus]:
        """A bus of settings that are changed so."""
        raise NotImplementedError

    @pytest.fixture
    def make(self, make_with: Callable[..., Bus]) -> Callable[[], Bus]:
        return make_with

    @pytest.fixture
    def bus(self, make: Callable[[], Bus]) -> Bus:
        return make()

    def test_test_clients_one_after_the_other(self, bus: Bus, diary: Diary) -> None:
        app = app_of(bus)
        for number in (1, 2, 3):
            with TestClient(app) as client:
                assert paid(client, 10) == 11 * number - 1
                requested = client.post("/request/w?amount=1").raise_for_status().json()
                assert requested["total"] == 11 * number
                assert is_ready(client)

    def test_nested_test_clients(self, bus: Bus) -> None:
        app = app_of(bus)
        with TestClient(app) as outer:
            assert paid(outer, 1) == 1
            with TestClient(app) as inner:
                assert paid(inner, 1) == 2
                assert paid(outer, 1) == 3
                assert inner.post("/request/w?amount=1").json()["total"] == 4
                assert outer.post("/request/w?amount=1").json()["total"] == 5
            assert paid(outer, 1) == 6
            assert outer.post("/request/w?amount=1").json()["total"] == 7

    def test_a_nested_one_outlives_the_outer(self, bus: Bus) -> None:
        app = app_of(bus)
        with TestClient(app) as first:
            assert paid(first, 1) == 1
            second = TestClient(app)
            second.__enter__()
        try:
            assert paid(second, 1) == 2
            assert second.post("/request/w?amount=1").json()["total"] == 3
        finally:
            second.__exit__(None, None, None)

    def test_what_one_loop_sends_another_ones_worker_handles(self, bus: Bus, diary: Diary) -> None:
        """Nothing of the first one's is waited for in vain."""
        serving, working = app_of(bus, works=False), app_of(bus)
        with TestClient(working), TestClient(serving) as client:
            for number in range(20):
                assert paid(client, 1, f"w{number}") == 1
                assert client.post(f"/request/w{number}?amount=1").json()["total"] == 2

    def test_test_clients_in_several_threads_at_once(self, bus: Bus, diary: Diary) -> None:
        app, clients, payments = app_of(bus), 4, 15
        begin = threading.Barrier(clients)

        def serve(number: int) -> None:
            begin.wait(60)
            with TestClient(app) as client:
                for _ in range(payments):
                    client.post("/pay/shared?amount=1")  # a conflict is its own affair
                    paid(client, 1, f"own{number}")

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(serve, range(clients)))

        async def seen() -> None:
            async with bus, Worker(bus):
                for number in range(clients):
                    wallet = f"own{number}"
                    found = await bus.query(GetWallet(wallet_id=wallet))
                    assert found
                    assert found.total == payments
                    stored = [one async for one in Events(bus).show(f"wallet-{wallet}")]
                    assert [one.version for one in stored] == list(range(1, len(stored) + 1))
                shared = [one async for one in Events(bus).show("wallet-shared")]
                assert [one.version for one in shared] == list(range(1, len(shared) + 1))
                total = sum(one.name == "Paid" for one in shared)
                after = Receipt("", {"wallet-shared": len(shared)})
                found = await bus.query(GetWallet(wallet_id="shared"), after=after, timeout=20)
                assert found
                assert found.total == total
                assert await DeadLetters(bus).list() == []

        asyncio.run(seen())

    def test_asyncio_run_again_and_again(self, bus: Bus) -> None:
        assert [asyncio.run(pay(bus, 1)) for _ in range(3)] == [1, 2, 3]

    def test_a_loop_that_ended_without_leaving_is_no_obstacle(self, bus: Bus) -> None:
        async def enters() -> int:
            await bus.__aenter__()
            receipt = await bus.execute(Pay(wallet_id="w", amount=1))
            return receipt.versions["wallet-w"]

        assert asyncio.run(enters()) == 1
        with pytest.raises(ConfigurationError, match=r"was closed|another event loop"):
            asyncio.run(bus.execute(Pay(wallet_id="w", amount=1)))
        assert asyncio.run(enters()) == 2
        assert asyncio.run(pay(bus, 1)) == 3

    async def test_entered_by_several_tasks_it_is_open_until_the_last_one_leaves(
        self, bus: Bus
    ) -> None:
        worker = Worker(bus)

        async def use(number: int) -> None:
            async with bus, worker:
                receipt = await bus.execute(Pay(wallet_id=f"w{number}", amount=1))
                await bus.query(GetWallet(wallet_id=f"w{number}"), after=receipt, timeout=20)

        async with bus, worker:
            await asyncio.gather(*map(use, range(5)))
            receipt = await bus.request(Pay(wallet_id="w1", amount=1), timeout=20)
            assert receipt.result == 2
        with pytest.raises(ConfigurationError, match="was closed"):
            await bus.execute(Pay(wallet_id="w1", amount=1))

    async def test_entered_and_left_at_any_moment(self, bus: Bus) -> None:
        """Also by those who are cancelled meanwhile."""

        async def use(number: int) -> None:
            async with bus, Worker(bus):
                await bus.execute(Pay(wallet_id=f"w{number}", amount=1))

        for number in range(6):
            tasks = [asyncio.create_task(use(number * 10 + n)) for n in range(3)]
            await asyncio.sleep(0.01 * number)
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not tasks[1].exception()
            assert not tasks[2].exception()
        await use(100)

    async def test_used_before_it_is_opened_it_says_so(self, bus: Bus) -> None:
        await self._refuses(bus, "is not open")
        async with bus:
            await bus.execute(Pay(wallet_id="w", amount=1))

    async def test_used_after_it_was_closed_it_says_so(self, bus: Bus) -> None:
        async with bus:
            pass
        await self._refuses(bus, "was closed")

    async def test_used_in_another_loop_it_says_so(self, bus: Bus) -> None:
        async with bus:
            with pytest.raises(ConfigurationError, match="is open in another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(_execute(bus)))
            await _execute(bus)

    async def test_used_in_another_loop_after_third_ones_came_and_went_it_says_so(
        self, bus: Bus
    ) -> None:
        async def entering() -> None:
            async with bus:
                await _execute(bus)

        async with bus:
            await asyncio.to_thread(lambda: asyncio.run(entering()))
            with pytest.raises(ConfigurationError, match="is open in another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(_execute(bus)))
            with pytest.raises(ConfigurationError, match="is open in another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(Worker(bus).__aenter__()))
            health = await asyncio.to_thread(lambda: asyncio.run(bus.health()))
            assert "is open in another event loop" in health.problems[0].what
            await _execute(bus)
        await self._refuses(bus, "was closed")

    def test_used_in_another_loop_of_the_same_thread_it_says_so(self, bus: Bus) -> None:
        """As by a fixture of a session's loop, in a test with a loop of its own."""
        with asyncio.Runner() as one, asyncio.Runner() as other:
            one.run(bus.__aenter__())
            with pytest.raises(ConfigurationError, match="is open in another event loop"):
                other.run(_execute(bus))
            with pytest.raises(ConfigurationError, match="is open in another event loop"):
                other.run(Worker(bus).__aenter__())
            other.run(bus.__aexit__(None, None, None))
            one.run(_execute(bus))
            assert other.run(pay(bus, 1)) == 2
            one.run(bus.__aexit__(None, None, None))

    def test_a_test_client_without_its_lifespan_is_told_what_to_write(self, bus: Bus) -> None:
        with pytest.raises(ConfigurationError, match="`with TestClient\\(app\\) as client:`"):
            TestClient(app_of(bus)).post("/pay/w?amount=1")

    def test_what_changes_in_one_loop_is_told_in_another(self, bus: Bus) -> None:
        seen: list[int] = []
        watching = threading.Event()

        async def watch() -> None:
            async with bus, aclosing(bus.watch(GetWallet(wallet_id="w"))) as answers:
                async for answer in answers:
                    seen.append(answer.total if answer else 0)
                    watching.set()
                    if seen[-1] == 3:
                        return

        with ThreadPoolExecutor(1) as pool, TestClient(app_of(bus)) as client:
            done = pool.submit(lambda: asyncio.run(asyncio.wait_for(watch(), 60)))
            assert watching.wait(60)
            for _ in range(3):
                paid(client, 1)
            done.result(60)
        assert seen == sorted(seen)

    def test_a_second_worker_at_a_health_port_is_refused_and_the_first_goes_on(
        self, make_with: Callable[..., Bus]
    ) -> None:
        (port,) = free_ports(1)
        bus = make_with(health_port=port)
        with TestClient(app_of(bus)) as first:
            for _ in range(2):
                with (
                    pytest.raises(ConfigurationError, match="BUS_HEALTH_PORT of its own"),
                    TestClient(app_of(bus)),
                ):
                    pass
                assert first.post("/request/w?amount=1").is_success
                assert is_ready(first)
        with TestClient(app_of(bus)) as again:
            assert again.post("/request/w?amount=1").json()["total"] == 3

    async def _refuses(self, bus: Bus, told: str) -> None:
        letters, events, projections = DeadLetters(bus), Events(bus), Projections(bus)
        command, query = Pay(wallet_id="w", amount=1), GetWallet(wallet_id="w")
        after = Receipt("", {"wallet-w": 1})
        for call in (
            lambda: bus.execute(command),
            lambda: bus.execute(command, id="k1"),
            lambda: bus.query(query),
            lambda: bus.query(query, after=after),
            lambda: anext(bus.watch(query)),
            lambda: bus.send(command),
            lambda: bus.request(command),
            lambda: bus.publish(Rung()),
            lambda: Worker(bus).__aenter__(),
            lambda: letters.list(),
            lambda: anext(aiter(events.show("wallet-w"))),
            lambda: projections.status(),
        ):
            with pytest.raises(ConfigurationError, match=f"{told}: enter it"):
                await call()
        health = await bus.health()
        assert not health.ready
        assert health.alive
        assert told in health.problems[0].what
        assert [one.projection for one in projections.declared()] == ["wallets"]

    async def test_closed_twice_is_closed(self, bus: Bus) -> None:
        await bus.__aenter__()
        for _ in range(3):
            await bus.__aexit__(None, None, None)
        assert await pay(bus, 1) == 1
        worker = Worker(bus)
        await worker.__aexit__(None, None, None)
        async with bus:
            await worker.__aenter__()
            await worker.stop()
            for _ in range(2):
                await worker.__aexit__(None, None, None)
        assert await pay(bus, 1) == 2

    async def test_closed_while_it_is_used_every_call_ends(self, bus: Bus) -> None:
        """By its answer, or by an error of the bus; what was answered is stored."""
        done: list[Receipt] = []

        async def pays(number: int) -> None:
            with suppress(ConfigurationError, StoreUnavailable):
                while True:
                    done.append(await bus.execute(Pay(wallet_id=f"w{number}", amount=1)))
                    await asyncio.sleep(0)

        async def watches() -> list[Any]:
            return [one async for one in bus.watch(GetWallet(wallet_id="w0"))]

        async with bus:
            tasks = [asyncio.create_task(pays(number)) for number in range(8)]
            watching = asyncio.create_task(watches())
            await until(lambda: len(done) > 20, "some are paid")
        async with asyncio.timeout(60 * patience()):
            await asyncio.gather(*tasks)
            assert await watching
        async with bus:
            stored = Events(bus)
            for number in range(8):
                ids = {one.causation_id async for one in stored.show(f"wallet-w{number}")}
                assert ids >= {one.id for one in done if f"wallet-w{number}" in one.versions}

    async def test_a_bus_that_closes_before_its_worker_leaves_nothing(self, bus: Bus) -> None:
        worker = Worker(bus)
        await bus.__aenter__()
        await worker.__aenter__()
        await bus.execute(Pay(wallet_id="w", amount=1))
        async with asyncio.timeout(60 * patience()):
            await bus.__aexit__(None, None, None)
            await worker.__aexit__(None, None, None)
        assert await pay(bus, 1) == 2

    async def test_what_was_made_of_it_before_goes_on_after_each_opening(self, bus: Bus) -> None:
        letters, events = DeadLetters(bus), Events(bus)
        for number in (1, 2, 3):
            async with bus:
                await bus.execute(Pay(wallet_id="w", amount=1))
                assert len([one async for one in events.show("wallet-w")]) == number
                assert await letters.list() == []

    async def test_several_buses_side_by_side(self, make: Callable[[], Bus], bus: Bus) -> None:
        other = make()
        async with bus, other, Worker(bus):
            for one in (bus, other):
                await one.execute(Pay(wallet_id="w", amount=1))
        async with other, bus:
            for one in (bus, other):
                await one.execute(Pay(wallet_id="w", amount=1))
        await self._refuses(bus, "was closed")

    def test_it_may_be_looked_at_while_it_serves(self, bus: Bus) -> None:
        async def looks() -> None:
            async with bus.looking():
                assert await DeadLetters(bus).list() == []
                async with bus, Worker(bus):
                    await bus.execute(Pay(wallet_id="w", amount=1))
                assert len([one async for one in Events(bus).show("wallet-w")]) == 1
                async with bus:
                    pass
            with pytest.raises(BusError, match="was closed"):
                await DeadLetters(bus).list()

        asyncio.run(looks())


class Rung(Event):
    pass


async def _execute(bus: Bus) -> Receipt:
    return await bus.execute(Pay(wallet_id="w", amount=1))
