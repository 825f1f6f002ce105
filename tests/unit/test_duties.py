"""What else goes on in a worker: it is started, run again, asked for its health, and ended."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Check,
    ConfigurationError,
    Duty,
    Event,
    Health,
    Projection,
    Router,
    Settings,
    UnknownMessage,
    Update,
    Worker,
    signals,
)
from bus.delivery.handler_consumer import HandlerConsumer
from tests.unit.virtual_time import run_in_no_time
from tests.waiting import until
from tools.services.ports import free_ports


def in_no_time(main: Callable[[], Any]) -> None:
    run_in_no_time(lambda _: main())


def shop(**changed: Any) -> Bus:
    return Bus("shop", settings=Settings.in_memory().model_copy(update=changed))


class Opened(Event):
    owner: str


class Account(Aggregate, events=[Opened]): ...


class View(BaseModel):
    owner: str


def bank(health_port: int = 0, projection: str = "owners") -> Bus:
    owners = Projection(projection, of=[Account], view=View)

    @owners.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    settings = Settings.in_memory().model_copy(
        update={"health_port": health_port, "telemetry": "never"}
    )
    return Bus("bank", projections=[owners], settings=settings)


async def test_what_a_worker_consumes_is_told_by_health_as_soon_as_it_is_entered() -> None:
    async with bank() as bus, Worker(bus):
        told = {check.part for check in bus.runtime.checkup._checks}
        assert {"queue bank.owners", "queue bank.commands", "queue bank.dead"} <= told


def kept(worker: Worker) -> list[Duty]:
    shift = worker._shifts.here()
    assert shift is not None
    return list(shift._supervisor._kept)


async def test_what_waits_for_another_release_is_one_part_whatever_the_queue() -> None:
    mails = Router("mails")

    @mails.event
    async def opened(event: Opened) -> None: ...

    bus = Bus("bank", routers=[mails], settings=Settings.in_memory())
    worker = Worker(bus)
    async with bus, worker:
        for duty in kept(worker):
            if isinstance(consumer := getattr(duty.run, "__self__", None), HandlerConsumer):
                consumer.waiting.note("Closed", UnknownMessage("Closed"))
        problems = (await bus.health()).problems
        assert [one.what for one in problems if one.part == "releases"] == [
            "messages wait for a release of the code that handles them: "
            "Closed (bank.commands), Closed (bank.mails)"
        ]


async def parts(bus: Bus) -> set[str]:
    return {problem.part for problem in (await bus.health()).problems}


class Prices:
    """Fails so often, then goes on until it is cancelled."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.runs = self.ends = 0

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self.fails:
            raise ConnectionError("no prices")
        try:
            await asyncio.sleep(3600)
        finally:
            self.ends += 1


def test_a_duty_begins_and_ends_with_its_worker() -> None:
    async def main() -> None:
        prices = Prices()
        async with shop() as bus, Worker(bus, duties=[Duty("prices", prices.run)]):
            await until(lambda: prices.runs == 1, "it runs")
            assert await bus.health() == Health(True, True)
        assert (prices.runs, prices.ends) == (1, 1)

    in_no_time(main)


def test_a_duty_that_fails_is_run_again_and_health_names_it() -> None:
    async def main() -> None:
        prices = Prices(fails=6)
        async with shop() as bus, Worker(bus, duties=[Duty("prices", prices.run)]):
            await until(lambda: prices.runs == 1, "it runs")
            assert await parts(bus) == {"loop duty prices"}
            await asyncio.sleep(30)
            (problem,) = (await bus.health()).problems
            assert (problem.what, problem.breaks) == ("ConnectionError: no prices", "ready")
            assert 3 < prices.runs < 7
            await until(lambda: prices.runs == 7, "it goes on", within=60)
            await asyncio.sleep(30)
            assert await bus.health() == Health(True, True)

    in_no_time(main)


@pytest.mark.parametrize("name", ["relay", "owners", "sentinel", "bank.commands"])
def test_one_of_a_service_is_told_apart_from_what_else_goes_on_by_that_name(name: str) -> None:
    async def main() -> None:
        prices = Prices(fails=100)
        async with bank() as bus, Worker(bus, duties=[Duty(name, prices.run)]):
            for _ in range(60):
                await asyncio.sleep(0.5)
                assert await parts(bus) == {f"loop duty {name}"}
            assert not (await bus.health()).ready

    in_no_time(main)


def test_a_projection_is_told_apart_from_what_else_goes_on_by_its_name() -> None:
    async def main() -> None:
        bus = bank(projection="relay")
        worker = Worker(bus)
        async with bus, worker:
            names = [duty.name for duty in kept(worker)]
            assert len(set(names)) == len(names)

    in_no_time(main)


def test_one_that_returns_is_done() -> None:
    async def main() -> None:
        runs = 0

        async def once() -> None:
            nonlocal runs
            runs += 1

        async with shop() as bus, Worker(bus, duties=[Duty("once", once)]):
            await asyncio.sleep(60)
            assert await bus.health() == Health(True, True)
        assert runs == 1

    in_no_time(main)


def test_health_asks_the_checks_of_a_duty_for_as_long_as_its_worker_runs() -> None:
    async def main() -> None:
        async def ask() -> str:
            return "the prices are old"

        duty = Duty("prices", Prices().run, checks=[Check("prices", ask, "ready")])
        async with shop() as bus:
            async with Worker(bus, duties=[duty]):
                (problem,) = (await bus.health()).problems
                assert (problem.part, problem.what) == ("prices", "the prices are old")
                assert not (await bus.health()).ready
            assert await bus.health() == Health(True, True)

    in_no_time(main)


class Finishing:
    """Ends some seconds after it was asked to stop."""

    def __init__(self, name: str, ends: list[str], seconds: float) -> None:
        self.name = name
        self.ends = ends
        self.seconds = seconds
        self.left: float | None = None
        self.stopping = asyncio.Event()

    def duty(self, *, is_last: bool = False) -> Duty:
        return Duty(self.name, self.run, stop=self.stop, is_last=is_last)

    async def run(self) -> None:
        with suppress(asyncio.CancelledError):
            await self.stopping.wait()
            await asyncio.sleep(self.seconds)
            self.ends.append(self.name)
            return
        self.ends.append(f"{self.name}, cancelled")

    async def stop(self, within: float) -> None:
        self.left = within
        self.stopping.set()


def test_one_that_can_be_stopped_finishes_what_it_has_at_hand_the_last_ones_after_the_others() -> (
    None
):
    async def main() -> None:
        ends: list[str] = []
        first, last = Finishing("first", ends, 5), Finishing("last", ends, 1)
        duties = [last.duty(is_last=True), first.duty()]
        async with shop(stop_within=20) as bus, Worker(bus, duties=duties):
            await asyncio.sleep(1)
        assert ends == ["first", "last"]
        assert first.left == pytest.approx(16, abs=0.1)
        assert last.left == pytest.approx(15, abs=0.5)

    in_no_time(main)


def test_one_that_does_not_finish_in_time_is_cancelled_and_the_last_ones_have_their_share() -> None:
    async def main() -> None:
        ends: list[str] = []
        duties = [Finishing("slow", ends, 100).duty()]
        duties.append(Finishing("last", ends, 2).duty(is_last=True))
        async with shop(stop_within=20) as bus, Worker(bus, duties=duties):
            await asyncio.sleep(1)
        assert ends == ["last", "slow, cancelled"]

    in_no_time(main)


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit])
def test_one_whose_stop_fails_does_not_keep_the_others_from_finishing(
    error: type[BaseException],
) -> None:
    """Where `stop` cancels a task and waits for it, what it raises is a cancellation."""

    async def main() -> None:
        async def stop(_: float) -> None:
            raise error

        ends: list[str] = []
        duties = [Duty("prices", Prices().run, stop=stop), Finishing("first", ends, 5).duty()]
        async with shop(stop_within=20) as bus, Worker(bus, duties=duties):
            await asyncio.sleep(1)
        assert ends == ["first"]

    in_no_time(main)


@pytest.mark.parametrize(("kind", "takes"), [("fails", 0), ("hangs", 16)])
def test_one_that_cannot_be_stopped_is_cancelled(kind: str, takes: float) -> None:
    async def main() -> None:
        prices = Prices()

        async def stop(_: float) -> None:
            if kind == "fails":
                raise ValueError("no")
            await asyncio.sleep(3600)

        duty = Duty("prices", prices.run, stop=stop)
        async with shop(stop_within=20) as bus:
            assert await stopping(bus, duty) == pytest.approx(takes, abs=0.1)
        assert prices.ends == 1

    in_no_time(main)


async def stopping(bus: Bus, duty: Duty) -> float:
    """How many seconds a worker that has this one takes to stop, half a minute after it began."""
    worker = Worker(bus, duties=[duty])
    async with worker:
        await asyncio.sleep(30)
        began = asyncio.get_running_loop().time()
        await worker.stop()
        return asyncio.get_running_loop().time() - began


def test_one_that_is_to_be_run_again_ends_at_once_and_is_not_asked_to_stop() -> None:
    async def main() -> None:
        prices, stops = Prices(fails=100), []

        async def stop(within: float) -> None:
            stops.append(within)

        async with shop(stop_within=20) as bus:
            assert await stopping(bus, Duty("prices", prices.run, stop=stop)) < 0.1
            runs = prices.runs
            await asyncio.sleep(60)
        assert (prices.runs, stops) == (runs, [])

    in_no_time(main)


def test_one_that_fails_as_it_stops_is_not_run_again() -> None:
    async def main() -> None:
        runs, stopping_ = 0, asyncio.Event()

        async def run() -> None:
            nonlocal runs
            runs += 1
            await stopping_.wait()
            raise ConnectionError("no prices")

        async def stop(_: float) -> None:
            stopping_.set()

        async with shop(stop_within=20) as bus:
            assert await stopping(bus, Duty("prices", run, stop=stop)) < 0.1
        assert runs == 1

    in_no_time(main)


@pytest.mark.parametrize("how", ["twice at once", "cancelled", "cannot begin"])
def test_that_a_worker_has_left_is_told_once(how: str) -> None:
    async def main() -> None:
        told: list[int] = []
        bus = shop(stop_within=20)
        bus.listen(signals.WorkerStopped, lambda signal: told.append(signal.unfinished))
        duties = [Finishing("slow", [], 100).duty()]

        async def fails() -> None:
            raise ConnectionError("nobody is there")

        if how == "cannot begin":
            duties.append(Duty("prices", nothing, begin=fails))
        async with bus:
            worker = Worker(bus, duties=duties)
            with suppress(ConnectionError):
                async with worker:
                    await asyncio.sleep(1)
                    if how == "twice at once":
                        await asyncio.gather(worker.stop(), worker.stop())
                    else:
                        stops = asyncio.create_task(worker.stop())
                        await asyncio.sleep(1)
                        stops.cancel()
                        await asyncio.wait([stops])
        assert told == ([] if how == "cannot begin" else [1])

    in_no_time(main)


def test_one_that_returned_is_asked_nothing_more() -> None:
    async def main() -> None:
        stops = []

        async def ask() -> str:
            return "the prices are old"

        async def stop(within: float) -> None:
            stops.append(within)

        async def once() -> None:
            await asyncio.sleep(1)

        duty = Duty("once", once, checks=[Check("prices", ask)], stop=stop)
        async with shop(stop_within=20) as bus:
            async with Worker(bus, duties=[duty]):
                assert await parts(bus) == {"prices"}
                await asyncio.sleep(2)
                assert await bus.health() == Health(True, True)
            assert await stopping(bus, duty) < 0.1
        assert stops == []

    in_no_time(main)


async def test_a_worker_whose_duty_cannot_begin_is_not_entered_and_leaves_nothing_behind() -> None:
    async def begin() -> None:
        await asyncio.sleep(0.1)
        raise ConnectionError("nobody is there")

    prices = Prices()
    duties = [Duty("other", prices.run), Duty("prices", prices.run, begin=begin)]
    async with bank() as bus:
        before = asyncio.all_tasks()
        with pytest.raises(ConnectionError, match="nobody is there"):
            await Worker(bus, duties=duties).__aenter__()
        assert asyncio.all_tasks() == before
        assert await bus.health() == Health(True, True)
    assert prices.runs == 0


async def test_a_worker_that_cannot_answer_for_its_health_leaves_nothing_behind() -> None:
    (port,) = free_ports(1)
    async with bank(port) as bus, bank(port) as other, Worker(other):
        before = asyncio.all_tasks()
        with pytest.raises(ConfigurationError, match="something listens there"):
            await Worker(bus).__aenter__()
        assert asyncio.all_tasks() == before


async def nothing() -> None:
    """Goes on no longer than this."""


plain: Any = print


@pytest.mark.parametrize(
    ("duties", "why"),
    [
        ([nothing], r"is not a Duty; write Duty\(NAME, FUNCTION\)"),
        ([Duty("prices", nothing), Duty("prices", nothing)], "2 of them are named 'prices'"),
        ([Duty("prices", lambda: nothing())], "run= of 'prices' is .*, which is no async function"),
        ([Duty("prices", nothing, begin=plain)], "begin= of 'prices' is builtins.print, which"),
        ([Duty("prices", nothing, stop=plain)], "stop= of 'prices' is builtins.print, which"),
    ],
)
def test_what_is_no_duty_or_two_of_one_name_is_refused(duties: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Worker(shop(), duties=duties)


class Keeping:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("run", [nothing, partial(asyncio.sleep, 0), Keeping()])
def test_any_kind_of_async_function_is_run(run: Any) -> None:
    Worker(shop(), duties=[Duty("prices", run)])
