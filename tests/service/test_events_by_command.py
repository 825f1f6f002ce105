"""`bus events`, as people and programs call it."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bus import Bus, Event, Settings, Worker
from bus.cli.main import app
from tests.service.runs import Start, build
from tests.waiting import patience, until

TARGET = "tests.service.runs:build_named"


class Forgotten(Event):
    """Nobody in the service has a class for it."""


@pytest.fixture
async def bus(
    monkeypatch: pytest.MonkeyPatch, environment: Settings, unique: str
) -> AsyncIterator[Bus]:
    monkeypatch.setenv("RUNS_SERVICE", unique)
    async with build(environment, unique) as bus:
        yield bus


async def run(*words: str) -> Result:
    command, *arguments = words
    return await asyncio.to_thread(CliRunner().invoke, app, ["events", command, TARGET, *arguments])


async def as_json(*words: str) -> Any:
    result = await run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@asynccontextmanager
async def tailing(*arguments: str) -> AsyncIterator[Process]:
    """A process that follows the log; ended by SIGINT, as on a terminal."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bus", "events", "tail", TARGET, *arguments,
        stdout=PIPE, env=os.environ,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20 * patience()):
            await process.wait()


async def line_of(process: Process) -> bytes:
    assert process.stdout
    async with asyncio.timeout(20 * patience()):
        return await process.stdout.readline()


async def test_streams_conversations_and_unknown_names_are_printed(bus: Bus) -> None:
    async with Worker(bus):
        receipt = await bus.execute(Start(run_id="a", note="rejected\x1b[2J"))

        async def finished() -> bool:
            return len(await bus.runtime.event_log.read("run-a")) == 2

        await until(finished, "the run is finished")
    await bus.publish(Forgotten())

    started, ended = await as_json("show", "run-a")
    assert (started["version"], started["name"], started["schema"]) == (1, "Started", 1)
    assert started["data"] == {"run_id": "a", "note": "rejected\x1b[2J"}
    assert await as_json("show", "run-a", "--after", "1") == [ended]
    printed = (await run("show", "run-a")).stdout
    assert "run-a at 2  Finished (schema 1)" in printed
    assert "\x1b" not in printed
    nothing = await run("show", "run-b")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert nothing.stderr == "run-b has no events\n"

    rows = await as_json("trace", receipt.id)
    assert [(one["depth"], one["name"]) for one in rows[:3]] == [
        (0, "Start"), (1, "Started"), (2, "Finish"),
    ]  # fmt: skip
    drawn = (await run("trace", receipt.id)).stdout.splitlines()
    assert "  command  Start  " in drawn[0]
    assert drawn[1].startswith("  20")
    assert drawn[1].endswith(f"event  Started  run-a at 1  {receipt.id}:1")
    assert drawn[2].startswith("    20")
    assert (await run("trace", "nobody")).exit_code == 1

    (told,) = await as_json("unknown")
    assert (told["name"], told["category"], told["count"]) == ("Forgotten", bus.service, 1)
    head, row = (await run("unknown")).stdout.splitlines()
    assert head.split() == ["NAME", "CATEGORY", "COUNT", "FIRST", "LAST", "EXAMPLE"]
    assert row.endswith(f"{told['stream']} at 1")


async def test_a_tail_prints_what_is_stored_until_it_is_interrupted(bus: Bus) -> None:
    for number in range(3):
        await bus.execute(Start(run_id=f"old{number}"))
    async with tailing("--last", "1", "--category", "run", "--json") as process:
        assert json.loads(await line_of(process))["stream"] == "run-old2"
        await bus.publish(Forgotten())
        await bus.execute(Start(run_id="new"))
        assert json.loads(await line_of(process))["stream"] == "run-new"
    assert process.returncode == 0
    async with tailing("--last", "1") as process:
        assert b"run-new at 1  Started (schema 1)" in await line_of(process)


async def test_events_are_sent_to_one_subscription_once_more(bus: Bus) -> None:
    for number in range(3):
        await bus.execute(Start(run_id=f"r{number}"))
    counted = await as_json("republish", "--since", "5m", "--to", "finishing", "--dry-run")
    assert (counted["events"], counted["dry_run"], counted["absent"]) == (3, True, [])
    sent = await run("republish", "--since", "5m", "--to", "finishing")
    assert (sent.exit_code, sent.stdout) == (0, "sent to finishing: 3\n")
    late = await run("republish", "--since", "2000-01-01", "--until", "1h", "--to", "finishing")
    assert (late.exit_code, late.stdout) == (0, "sent to finishing: 0\n")

    unknown = await run("republish", "--since", "1h", "--to", "nobody")
    assert unknown.exit_code == 2
    assert "it has commands, finishing, mails, runs" in unknown.stderr
    wrong = await run("republish", "--since", "yesterday", "--to", "finishing")
    assert wrong.exit_code == 2
