"""What goes on for ever: it is started again, and told once."""

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs

from bus import ConfigurationError, Health, OutcomeUnknown, StoreUnavailable
from bus.common.tasks import end
from bus.observe.health import Check, Checkup
from bus.observe.loops import Failing as FailingLoop
from bus.observe.loops import Loops
from tests.waiting import until

REFUSED = ConfigurationError("MongoDB does not allow it: Unauthorized (code 13)")


class Failing:
    """Fails with each of these errors in turn, then runs until it is cancelled."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        await asyncio.sleep(3600)


async def test_a_loop_is_started_again_whatever_ended_it_and_health_says_so_since_when() -> None:
    run, loops = Failing(REFUSED, asyncio.CancelledError(), KeyError("x")), Loops()
    checkup = Checkup([], loops=loops)
    task = loops.start(run, "sweeper")
    await asyncio.sleep(0.1)
    (problem,) = (await checkup.health()).problems
    assert (problem.part, problem.breaks) == ("loop sweeper", "nothing")
    assert problem.what == f"ConfigurationError: {REFUSED}"
    await until(lambda: run.runs == 4, "it runs for the fourth time")
    (problem,) = (await checkup.health()).problems
    assert problem.what == "KeyError: 'x'"
    assert problem.seconds > 3
    await asyncio.sleep(12)
    assert await checkup.health() == Health(True, True)
    await end([task])


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (GeneratorExit(), "GeneratorExit"),
        (BaseExceptionGroup("some", [asyncio.CancelledError()]), "CancelledError"),
    ],
)
async def test_what_no_exception_is_and_a_loop_raised_itself_does_not_end_it(
    error: BaseException, what: str
) -> None:
    run, loops = Failing(error), Loops()
    task = loops.start(run, "sweeper")
    await until(lambda: run.runs == 2, "it runs again")
    (failing,) = loops.failing
    assert what in failing.what
    await end([task])


async def test_a_loop_that_is_closed_ends() -> None:
    loops = Loops()
    keeping = loops.keep(Failing(), "sweeper")
    keeping.send(None)
    keeping.close()
    assert loops.failing == []


async def test_a_loop_that_fails_for_long_makes_its_process_not_ready_until_it_goes_on() -> None:
    loops, mended = Loops(), asyncio.Event()
    checkup = Checkup([], loops=loops)

    async def turn() -> bool:
        if not mended.is_set():
            raise REFUSED
        return True

    for _ in range(12):
        assert not await loops.turn("relay", turn, otherwise=False)
        await asyncio.sleep(1)
    assert not (await checkup.health()).ready
    mended.set()
    assert await loops.turn("relay", turn, otherwise=False)
    assert await checkup.health() == Health(True, True)


async def test_what_failed_and_is_done_no_more_is_forgotten() -> None:
    async def fails() -> None:
        raise REFUSED

    loops = Loops()
    await loops.turn("sessions of a process", fails, None)
    await asyncio.sleep(100)
    assert [one.loop for one in loops.failing] == ["sessions of a process"]
    await asyncio.sleep(30)
    assert loops.failing == []


async def test_one_outage_is_one_line_and_its_end_another() -> None:
    errors: list[Exception] = [StoreUnavailable("a"), OutcomeUnknown("b"), StoreUnavailable("c")]

    async def turn() -> None:
        if errors:
            raise errors.pop(0)

    structlog.reset_defaults()
    loops = Loops()
    with capture_logs() as lines:
        for _ in range(5):
            await loops.turn("relay", turn, None)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("loop_held_up", "warning"),
        ("loop_goes_on", "info"),
    ]


async def test_an_outage_that_its_own_check_tells_is_told_once() -> None:
    async def away() -> str | None:
        return "no server"

    async def fails() -> None:
        raise StoreUnavailable("no server")

    loops = Loops()
    await loops.turn("relay", fails, None)
    told = (await Checkup([Check("database", away)], loops=loops).health()).problems
    assert [one.part for one in told] == ["database"]
    told = (await Checkup([], loops=loops).health()).problems
    assert [one.part for one in told] == ["loop relay"]


@pytest.mark.parametrize("nth", [0, 1])
async def test_a_loop_that_is_cancelled_ends_and_is_no_problem(nth: int) -> None:
    loops = Loops()
    with capture_logs():  # to show a traceback takes a second
        task = loops.start(Failing(*[REFUSED] * nth), "relay")
        await asyncio.sleep(0.01)
        await end([task])
    assert task.cancelled()
    assert loops.failing == []


def test_who_asks_in_another_thread_is_not_disturbed_by_a_failure_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loops = Loops()

    async def fails() -> None:
        raise RuntimeError("torn")

    def is_over(failing: FailingLoop) -> bool:
        loops.forget("other")  # as the loop itself does meanwhile
        return False

    async def both() -> None:
        await loops.turn("one", fails, None)
        await loops.turn("other", fails, None)

    asyncio.run(both())
    monkeypatch.setattr(FailingLoop, "is_over", property(is_over))
    assert [failing.loop for failing in loops.failing] == ["one", "other"]
