"""Aggregates by their state on the real services and in memory: moved to it and back while commands
come in, several releases side by side, found, locked, and stored with others or not at all."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bus import (
    Aggregates,
    Bus,
    ConfigurationError,
    NotBuilt,
    Recovery,
    Repository,
    Settings,
    Worker,
    default_backend,
)
from bus.write import snapshots
from bus.write.aggregate import Aggregate
from tests.service.vacancies import (
    BY_EVENTS,
    BY_STATE,
    BY_STATE_2,
    Close,
    CloseIn,
    Failed,
    Fill,
    Move,
    Register,
    Release,
)
from tests.waiting import until


class Releases:
    """Opens buses of several releases on one log."""

    def __init__(self, settings: Settings, service: str, stack: AsyncExitStack) -> None:
        self._settings, self._service, self._stack = settings, service, stack
        self._backend = default_backend(settings)

    async def open(self, release: Release) -> Bus:
        bus = release.build(self._settings, self._service, self._backend)
        return await self._stack.enter_async_context(bus)


@pytest.fixture
async def releases(settings: Settings, unique: str) -> AsyncIterator[Releases]:
    async with AsyncExitStack() as stack:
        yield Releases(settings, unique, stack)


async def load(bus: Bus, kind: type[Aggregate], id: str) -> Any:
    return await Repository(kind, bus.runtime.event_log).get(id)


async def right(bus: Bus) -> bool:
    """Whether each state is what its events make, and they are complete."""
    found = await Aggregates(bus).check("Vacancy")
    assert not found.differences, found
    return found.is_right


async def test_a_new_aggregate_is_found_and_loaded_by_its_state(releases: Releases) -> None:
    bus = await releases.open(BY_STATE)
    for id in ("a", "b", "c"):
        assert (await bus.execute(Fill(vacancy_id=id, amount=3))).result == 3
    assert (await bus.execute(Fill(vacancy_id="a", amount=3))).result == 6
    await bus.execute(Close(vacancy_id="b"))
    assert (await bus.execute(CloseIn(city="Ulm"))).result == ["a", "c"]
    assert (await bus.execute(CloseIn(city="Ulm"))).result == []
    assert await right(bus)


async def test_of_many_handlers_at_once_on_one_state_each_counts(releases: Releases) -> None:
    one, two = await releases.open(BY_STATE), await releases.open(BY_STATE)
    calls = [bus.execute(Fill(vacancy_id="a")) for bus in (one, two) for _ in range(10)]
    results = [receipt.result for receipt in await asyncio.gather(*calls)]
    assert sorted(results) == list(range(1, 21))
    assert await right(one)


async def test_a_repeat_gets_its_first_receipt(releases: Releases) -> None:
    bus = await releases.open(BY_STATE)
    first = await bus.execute(Fill(vacancy_id="a"), id="one")
    await bus.execute(Fill(vacancy_id="a"))
    assert await bus.execute(Fill(vacancy_id="a"), id="one") == first
    assert (await load(bus, BY_STATE.vacancy, "a")).filled == 2


async def test_several_aggregates_by_state_and_by_events_are_stored_all_or_none(
    releases: Releases,
) -> None:
    bus = await releases.open(BY_STATE)
    await bus.execute(Fill(vacancy_id="a", amount=9))
    await bus.execute(Move(source="a", target="b", amount=4))
    with pytest.raises(Failed):
        await bus.execute(Move(source="a", target="b", amount=1, fails=True))
    moves = [bus.execute(Move(source="a", target="b", amount=1)) for _ in range(5)]
    await asyncio.gather(*moves)
    assert (await load(bus, BY_STATE.vacancy, "a")).filled == 0
    assert (await load(bus, BY_STATE.vacancy, "b")).filled == 9
    assert (await load(bus, Register, "all")).notes == 6
    assert await right(bus)


async def test_an_event_handlers_session_its_mark_and_its_states_are_one_transaction(
    releases: Releases,
) -> None:
    bus = await releases.open(BY_STATE)
    async with Worker(bus):
        for number in range(6):
            await bus.execute(Fill(vacancy_id=str(number)))
        await bus.execute(CloseIn(city="Ulm"))

        async def handled() -> bool:
            found = await Repository(BY_STATE.vacancy, bus.runtime.event_log).find("closings")
            return getattr(found, "filled", 0) == 6

        await until(handled, "each closing is handled once")
    assert await right(bus)


# --- moved, while commands come in -----------------------------------------------------------


async def test_an_aggregate_is_moved_to_its_state_and_back_twice_while_commands_come_in(
    releases: Releases,
) -> None:
    """A release by events and one by state write side by side until the first is gone."""
    chance, sums, stop = random.Random(7), dict[str, int](), False
    old = await releases.open(BY_EVENTS)
    for number in range(60):
        await old.execute(Fill(vacancy_id=f"v{number}", amount=number))
        sums[f"v{number}"] = number
    writing: list[Bus] = [old]
    turns = [0, 0, 0]

    async def write(writer: int) -> None:
        while not stop:
            id, amount = f"v{chance.randrange(70)}", chance.randrange(9)
            await chance.choice(writing).execute(Fill(vacancy_id=id, amount=amount))
            sums[id] = sums.get(id, 0) + amount
            turns[writer] += 1
            await asyncio.sleep(0)

    async def each_has_turned() -> None:
        began = [*turns]
        await until(
            lambda: all(now > then for now, then in zip(turns, began, strict=True)),
            "each writer ends what it had begun",
        )

    writers = [asyncio.create_task(write(writer)) for writer in range(len(turns))]
    new = await releases.open(BY_STATE)
    try:
        for _ in range(2):
            writing[:] = [old, new]  # both are deployed
            await asyncio.sleep(0.2)
            with pytest.raises(NotBuilt, match="bus aggregates store APP Vacancy"):
                await new.execute(CloseIn(city="Bonn"))
            writing[:] = [new]
            await each_has_turned()  # commands of the older release have ended
            stored = await Aggregates(new).store("Vacancy")
            if not stored.complete:  # one was late
                assert stored.behind
                stored = await Aggregates(new).store("Vacancy")
            assert stored.complete, stored
            await asyncio.sleep(0.1)
            assert (await new.execute(CloseIn(city="Bonn"))).result == []
            await Aggregates(new).drop_states("Vacancy")  # and back
            writing[:] = [old, new]
            await asyncio.sleep(0.2)
            writing[:] = [old]
            await asyncio.sleep(0.05)
    finally:
        stop = True
        await asyncio.gather(*writers)
    assert (await Aggregates(new).store("Vacancy")).complete
    for id, filled in sums.items():
        assert (await load(old, BY_EVENTS.vacancy, id)).filled == filled
        assert (await load(new, BY_STATE.vacancy, id)).filled == filled
    assert await right(new)


async def test_an_older_release_that_writes_meanwhile_is_told(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await releases.open(BY_EVENTS)
    for number in range(50):
        await old.execute(Fill(vacancy_id=f"v{number:02}"))
    new = await releases.open(BY_STATE)
    written = False

    def report(done: int, of: int) -> None:
        nonlocal written
        if not written:
            written = True
            writing.append(asyncio.create_task(old.execute(Fill(vacancy_id="v00"))))

    writing: list[Any] = []
    stored = await Aggregates(new).store("Vacancy", report=report)
    await asyncio.gather(*writing)
    assert stored.streams == stored.stored == 50
    if stored.behind:  # it came before the end
        assert not stored.complete
    again = await Aggregates(new).store("Vacancy")
    assert again.complete
    assert await right(new)


async def test_a_release_by_events_that_begins_makes_states_incomplete(
    releases: Releases,
) -> None:
    new = await releases.open(BY_STATE)
    await new.execute(Fill(vacancy_id="a"))
    assert (await new.execute(CloseIn(city="Bonn"))).result == []
    old = await releases.open(BY_EVENTS)
    await old.execute(Close(vacancy_id="a"))
    with pytest.raises(NotBuilt):
        await new.execute(CloseIn(city="Ulm"))
    assert (await Aggregates(new).store("Vacancy")).stored == 1
    assert (await new.execute(CloseIn(city="Ulm"))).result == []
    assert await right(new)


async def test_a_release_by_events_that_begins_while_states_are_stored_keeps_them_incomplete(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins at the last moment, after what was written meanwhile was looked for."""
    old = await releases.open(BY_EVENTS)
    await old.execute(Fill(vacancy_id="a"))
    new = await releases.open(BY_STATE)
    back: list[Bus] = []
    behind = Aggregates._behind

    async def behind_and_then(self: Aggregates, *where: Any) -> int:
        found = await behind(self, *where)
        back.append(await releases.open(BY_EVENTS))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Aggregates, "_behind", behind_and_then)
        stored = await Aggregates(new).store("Vacancy")
    await back[0].execute(Fill(vacancy_id="b"))
    with pytest.raises(NotBuilt, match="bus aggregates store APP Vacancy"):
        await new.execute(CloseIn(city="Ulm"))
    assert not stored.complete
    assert (await Aggregates(new).store("Vacancy")).complete
    assert (await new.execute(CloseIn(city="Ulm"))).result == ["a", "b"]


async def test_storing_goes_on_where_it_was_cut_short(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.operate.aggregates.NOTE_EVERY", 20)
    old = await releases.open(BY_EVENTS)
    for number in range(100):
        await old.execute(Fill(vacancy_id=f"v{number:02}"))
    new = await releases.open(BY_STATE)
    told: list[tuple[int, int]] = []

    def report(done: int, of: int) -> None:
        told.append((done, of))
        if done == 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Aggregates(new).store("Vacancy", report=report)
    assert not await snapshots.is_complete(new.runtime.event_log, BY_STATE.vacancy)
    assert told[0] == (20, 100)
    stored = await Aggregates(new).store("Vacancy", report=lambda *done: told.append(done))
    assert stored.complete
    assert (stored.streams, stored.stored) == (100, 100)
    assert min(done for done, _ in told[4:]) >= 80
    assert told[-1] == (100, 100)
    assert await right(new)


async def test_a_raised_schema_is_stored_while_aggregates_are_found(releases: Releases) -> None:
    before, after = await releases.open(BY_STATE), await releases.open(BY_STATE_2)
    for number in range(5):
        await before.execute(Fill(vacancy_id=f"v{number}"))
    assert (await after.execute(CloseIn(city="Ulm"))).result == [f"v{n}" for n in range(5)]
    assert (await before.execute(CloseIn(city="Ulm"))).result == []
    await before.execute(Fill(vacancy_id="v8"))
    found = await Aggregates(after).check("Vacancy")
    assert [(one.stream, one.kind) for one in found.differences] == [("vacancy-v8", "differs")]
    stored = await Aggregates(after).store("Vacancy")
    assert (stored.streams, stored.stored, stored.complete) == (6, 1, True)
    assert await right(after)
    assert (await before.execute(CloseIn(city="Ulm"))).result == ["v8"]


async def test_a_check_tells_each_kind_of_difference(releases: Releases) -> None:
    bus = await releases.open(BY_STATE)
    log = bus.runtime.event_log
    for id in ("a", "b", "c", "d", "e"):
        await bus.execute(Fill(vacancy_id=id))
        await bus.execute(Fill(vacancy_id=id))
    state = await log.state("vacancy-a")
    assert state is not None
    await log.forget_states("vacancy")
    for name, version in (("b", 1), ("c", 2), ("d", 9), ("x", 1), ("e", 2)):
        fields = {**state.state, "filled": 7} if name == "c" else state.state
        kept = state._replace(stream=f"vacancy-{name}", version=version, state=fields)
        await log.save_state(kept)
    found = await Aggregates(bus).check("Vacancy")
    kinds = {one.stream.removeprefix("vacancy-"): one.kind for one in found.differences}
    assert kinds == {"a": "missing", "b": "behind", "c": "differs", "d": "ahead", "x": "strange"}
    (differs,) = [one for one in found.differences if one.kind == "differs"]
    assert differs.fields == {"filled": (7, 2)}
    assert not found.is_right
    stored = await Aggregates(bus).store("Vacancy")
    assert (stored.stored, stored.complete) == (3, False)
    assert {one.kind for one in stored.differences} == {"ahead", "strange"}
    await Aggregates(bus).drop_states("Vacancy")
    assert (await Aggregates(bus).store("Vacancy")).complete
    assert await right(bus)


async def test_who_names_what_has_no_states_is_told(releases: Releases) -> None:
    bus = await releases.open(BY_EVENTS)
    with pytest.raises(ConfigurationError, match="has no aggregate 'Vacancies' that a handler"):
        await Aggregates(bus).check("Vacancies")
    with pytest.raises(ConfigurationError, match="is stored by its events, and has no states"):
        await Aggregates(bus).store("vacancy")
    await Aggregates(bus).drop_states("vacancy")


async def test_recovery_forgets_states(releases: Releases) -> None:
    bus = await releases.open(BY_STATE)
    await bus.execute(Fill(vacancy_id="a"))
    steps: list[str] = []
    await Recovery(bus, steps.append).run()
    assert [step for step in steps if "bus aggregates store APP Vacancy" in step]
    assert await bus.runtime.event_log.state("vacancy-a") is None
    assert (await bus.execute(Fill(vacancy_id="a"))).result == 2
    with pytest.raises(NotBuilt):
        await bus.execute(CloseIn(city="Ulm"))
    assert (await Aggregates(bus).store("Vacancy")).complete
    assert await right(bus)
