"""`bus aggregates`, as people and programs call it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bus import Bus, Settings
from bus.cli.main import app
from bus.operate.aggregates import Aggregates
from tests.service.vacancies import BY_EVENTS, BY_STATE, CloseIn, Fill

TARGET = "tests.service.vacancies:build_named"


@pytest.fixture
async def bus(
    monkeypatch: pytest.MonkeyPatch, environment: Settings, unique: str
) -> AsyncIterator[Bus]:
    """Three vacancies by their events, and a bus that stores them by their state."""
    monkeypatch.setenv("VACANCIES_SERVICE", unique)
    async with BY_EVENTS.build(environment, unique) as former:
        for number in range(3):
            await former.execute(Fill(vacancy_id=f"v{number}", amount=number))
    async with BY_STATE.build(environment, unique) as bus:
        yield bus


async def run(*words: str, typed: str = "") -> Result:
    command, *arguments = words
    words = ("aggregates", command, TARGET, *arguments)
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), typed)


async def as_json(*words: str, status: int = 0) -> Any:
    result = await run(*words, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


async def test_states_are_checked_stored_and_dropped(bus: Bus) -> None:
    checked = await as_json("check", "Vacancy", status=1)
    assert (checked["aggregate"], checked["streams"], checked["differing"]) == ("Vacancy", 3, 3)
    assert checked["differences"][0] == {
        "stream": "vacancy-v0", "kind": "missing", "version": 1, "fields": {}, "reason": "",
    }  # fmt: skip
    assert checked["complete"] is False
    assert await as_json("store", "Vacancy") == {
        "aggregate": "Vacancy",
        "streams": 3,
        "stored": 3,
        "behind": 0,
        "differences": [],
        "complete": True,
    }
    assert (await bus.execute(CloseIn(city="Ulm"))).result == ["v0", "v1", "v2"]
    assert (await as_json("check", "vacancy"))["differences"] == []
    result = await run("drop-states", "Vacancy", typed="n\n")
    assert result.exit_code == 1
    assert (await as_json("check", "Vacancy"))["complete"] is True
    result = await run("drop-states", "Vacancy", "--yes")
    assert (result.exit_code, result.stdout) == (0, "the states of Vacancy are gone\n")
    assert (await as_json("check", "Vacancy", status=1))["differing"] == 3


async def test_what_differs_is_shown_field_by_field(bus: Bus) -> None:
    await run("store", "Vacancy")
    state = await bus.runtime.event_log.state("vacancy-v1")
    assert state is not None
    await bus.runtime.event_log.save_state(state._replace(state={**state.state, "filled": 9}))
    result = await run("check", "Vacancy")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "vacancy-v1 at 1: differs",
        "    filled: 9, to be 1",
        "Vacancy: 3 compared, 1 differ",
    ]
    result = await run("store", "Vacancy")
    assert (result.exit_code, result.stdout) == (0, "Vacancy: 3 gone through, 1 stored\n")
    assert (await run("check", "Vacancy")).exit_code == 0


async def test_what_cannot_be_stored_is_told(bus: Bus) -> None:
    await run("store", "Vacancy")
    state = await bus.runtime.event_log.state("vacancy-v1")
    assert state is not None
    await bus.runtime.event_log.save_state(state._replace(version=7))
    result = await run("store", "Vacancy")
    assert result.exit_code == 1
    assert "vacancy-v1 at 7: ahead" in result.output
    assert "some states are of another log" in result.output


async def test_a_release_by_events_that_begins_meanwhile_is_told(
    bus: Bus, environment: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = Aggregates._behind

    async def behind_and_then(self: Aggregates, *where: Any) -> int:
        found = await behind(self, *where)
        async with BY_EVENTS.build(environment, unique):
            return found

    with monkeypatch.context() as patched:
        patched.setattr(Aggregates, "_behind", behind_and_then)
        result = await run("store", "Vacancy")
    assert result.exit_code == 1
    assert "began meanwhile: run this again once none runs" in result.stderr
    assert (await run("store", "Vacancy")).exit_code == 0


async def test_a_name_that_is_none_and_an_aggregate_by_events_are_told(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = await run("check", "Vacancies")
    assert result.exit_code == 2
    assert "has no aggregate 'Vacancies' that a handler takes" in result.output
    monkeypatch.setenv("VACANCIES_RELEASE", "events")
    result = await run("store", "Vacancy")
    assert result.exit_code == 2
    assert "is stored by its events, and has no states" in result.output
