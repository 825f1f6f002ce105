"""A state and its commit under fire: both are stored, or neither."""

import asyncio
import os

import pytest

from bus import Aggregates, Bus, Settings
from bus.assembly.backend import brought_by
from bus.testing import NO_FAULTS, When, World, chaos
from bus.write.repository import catch_up
from tests import killing
from tests.service.vacancies import BY_STATE, CloseIn, Fill, Move


async def killed(when: str, service: str, settings: Settings) -> None:
    """Runs a process until it kills itself in an append."""
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
    }
    await killing.killed("killed_in_append", service, when, environment=environment)


@pytest.mark.parametrize(
    "when", ["before the state", "after the state", "before the commit", "after the commit"]
)
async def test_a_process_killed_in_the_append_stores_a_commit_with_its_state_or_neither(
    real_settings: Settings, unique: str, when: str
) -> None:
    await killed(when, unique, real_settings)
    async with BY_STATE.build(real_settings, unique) as bus:
        log = bus.runtime.event_log
        state, head = await log.state("vacancy-a"), await log.heads(["vacancy-a"])
        assert state is not None
        assert state.version == head["vacancy-a"] == (3 if when == "after the commit" else 2)
        for number in range(5):  # whoever asked for it asks again
            await bus.execute(Fill(vacancy_id="a", amount=number), id=f"k{number}")
        assert (await Aggregates(bus).check("Vacancy")).is_right
        state = await log.state("vacancy-a")
        assert state is not None
        assert (state.version, state.state["filled"]) == (5, 10)


def board(settings: Settings) -> Bus:
    brought = brought_by(settings)
    assert brought
    return BY_STATE.build(settings, "board", brought)


async def states_of(world: World, *ids: str) -> list[int]:
    """What the states of vacancies hold, which is what their events make."""
    found = []
    for id in ids:
        state = await world.event_log.state(f"vacancy-{id}")
        folded = BY_STATE.vacancy(id)
        await catch_up(folded, world.event_log)
        assert state == folded.to_snapshot(), f"{world}: {id}"
        found.append(state.state["filled"])
    return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 5])
async def test_a_crash_at_an_append_loses_and_repeats_nothing_of_states(
    when: When, nth: int
) -> None:
    async with chaos(board, faults=NO_FAULTS) as world:
        world.crash_at("commit", nth, when=when)
        for amount in (5, 6, 7):
            await world.execute(Fill(vacancy_id="a", amount=amount))
        await world.execute(Move(source="a", target="b", amount=4))
        await world.settle()
        assert (await world.execute(CloseIn(city="Ulm"))).result == ["a", "b", "sent"]
        await world.settle()
        assert world.crashes == 1
        assert await states_of(world, "a", "b", "sent", "closings") == [14, 4, 4, 3]


@pytest.mark.parametrize("seed", range(5))
async def test_under_chaos_each_state_is_what_its_events_make(seed: int) -> None:
    async with chaos(board, seed=seed) as world:
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                fill = Fill(vacancy_id=f"v{number % 4}", amount=1)
                group.create_task(world.execute(fill))
        await world.settle()
        assert await states_of(world, "v0", "v1", "v2", "v3") == [8, 8, 7, 7]
