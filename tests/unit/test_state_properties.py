"""Whatever comes, and whatever becomes of the states: an aggregate by its state does what one by
its events does."""

import asyncio
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bus import Bus, Repository, Settings
from bus.codec import record
from bus.common import clock
from bus.errors import BusError
from bus.stores.event_log import Commit
from bus.write import snapshots
from tests.examples import hundreds
from tests.service.vacancies import (
    BY_EVENTS,
    BY_STATE,
    Close,
    Closed,
    Failed,
    Fill,
    Filled,
    Move,
    Release,
)

RUNNER = asyncio.Runner()
IDS = st.sampled_from(["a", "b", "c"])
COMMANDS = st.one_of(
    st.builds(Fill, vacancy_id=IDS, amount=st.integers(-5, 5)),
    st.builds(Close, vacancy_id=IDS),
    st.builds(
        Move,
        source=st.just("a"),
        target=st.sampled_from(["b", "c"]),
        amount=st.integers(1, 3),
        fails=st.booleans(),
    ),
)
ACCIDENTS = st.tuples(
    st.sampled_from(["filled by an older release", "closed by an older release", "no states"]), IDS
)
STEPS = st.lists(st.one_of(COMMANDS, COMMANDS, ACCIDENTS), max_size=25)


async def ran(release: Release, steps: Sequence[Any]) -> tuple[list[Any], Any, Any]:
    """Returns the receipts or errors, the aggregates, and the events of a run."""
    outcomes: list[Any] = []
    async with release.build(Settings.in_memory(), "board") as bus:
        log = bus.runtime.event_log
        for number, step in enumerate(steps):
            if isinstance(step, tuple):
                what, id = step
                await happen(bus, what, id, number)
                continue
            for _ in range(1 + (number % 7 == 0)):  # some are repeated
                try:
                    outcomes.append(await bus.execute(step, id=f"k{number}"))
                except (BusError, Failed) as error:
                    outcomes.append(type(error))
        found = {
            id: vars(job)
            for id in ("a", "b", "c")
            if (job := await Repository(release.vacancy, log).find(id))
        }
        for loaded in found.values():
            for name, value in (("filled", 0), ("status", "open"), ("city", "")):
                loaded.setdefault(name, value)
        commits = [commit async for commit in log.scan(["vacancy", "register"])]
    return outcomes, found, sorted((one.stream, one.first, one.events) for one in commits)


async def happen(bus: Bus, what: str, id: str, number: int) -> None:
    log, stream = bus.runtime.event_log, f"vacancy-{id}"
    if what == "no states":
        await log.forget_states()
        return
    await snapshots.prepare(log, BY_EVENTS.vacancy)  # as where it is opened
    event = Filled(amount=7) if what.startswith("filled") else Closed()
    commit = Commit(
        id=f"older{number}",
        stream=stream,
        category="vacancy",
        first=(await log.heads([stream])).get(stream, 0) + 1,
        events=(record(event),),
        time=clock.now(),
        correlation_id="c",
    )
    await log.append([commit])


@given(steps=STEPS)
@settings(max_examples=hundreds(1), deadline=None)
def test_by_its_state_an_aggregate_does_what_it_does_by_its_events(steps: Sequence[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "KNOWN_FOR", 0.0)
        by_events = RUNNER.run(ran(BY_EVENTS, steps))
        by_state = RUNNER.run(ran(BY_STATE, steps))
    assert by_state == by_events
