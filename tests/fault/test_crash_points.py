"""A process that dies at any step of a message's way: nothing is lost, nothing happens twice."""

import pytest

from bus.testing import NO_FAULTS, STEPS, Step, When, chaos
from handlers.app import build
from tests.fault import hirings, payments
from tests.service.wallet import Diary


@pytest.fixture(autouse=True)
def marks_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are cleared together twenty times a second, and a run of these is over in fewer."""
    monkeypatch.setattr("bus.write.publisher.MARK_EVERY", 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_loses_nothing_and_repeats_nothing(
    step: Step, when: When
) -> None:
    for nth in (1, 3):
        diary = Diary()
        async with chaos(payments.wallets(diary), faults=NO_FAULTS) as world:
            world.crash_at(step, nth, when=when)
            await payments.pay(world)
            await world.settle()
            assert world.crashes == 1
            await payments.check(world, diary)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_the_job_board_survives_a_crash_at_any_step(step: Step, when: When) -> None:
    async with chaos(build, faults=NO_FAULTS) as world:
        world.crash_at(step, nth=4, when=when)
        await hirings.hire(world)
        await world.settle()
        assert world.crashes == 1
        await hirings.check(world)


async def test_a_process_that_dies_again_and_again_gets_through_all_the_same() -> None:
    diary = Diary()
    async with chaos(payments.wallets(diary), faults=NO_FAULTS) as world:
        for step in STEPS:
            for nth in (1, 2, 3):
                world.crash_at(step, nth)
        await payments.pay(world)
        await world.settle()
        assert world.crashes > len(STEPS)
        await payments.check(world, diary)
