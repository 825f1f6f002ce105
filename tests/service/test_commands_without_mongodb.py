"""Every command for a service that has its log in SQL and no MongoDB: it works, or says why not."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from typer.main import get_command
from typer.testing import CliRunner

from bus import DeadLetters, Settings, Worker
from bus.cli.main import app
from tests.service.ordering import AddItem, OrderPlaced, PlaceOrder, make_tables
from tests.service.ordering_service import build
from tests.waiting import until
from tools.services import statements

TARGET = "tests.service.ordering_service:build"
NO_STATES = "Customer is stored by its events, and has no states"
NO_PROJECTION = "there is no projection 'orders'; this service has none"


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    text: str


class Line(NamedTuple):
    """A command, what it says, and its exit status."""

    words: str
    says: str = ""
    status: int = 0


BEFORE = [
    Line("version"),
    Line("topology APP", "commands"),
    Line("projections list APP", "PROJECTION"),
    Line("contracts export APP", "PlaceOrder"),
    Line("stores sql mariadb", "CREATE TABLE bus_commits"),
    Line("stores check APP", "`bus stores create", 1),
    Line("events show APP order-1", "`bus stores create", 2),
    Line("stores create APP", "the tables are there"),
    Line("stores check APP", "the tables are there"),
    Line("stores upgrade APP", "they had that already"),
    Line("topology APP --declare", "commands"),
    Line("topology show APP", "commands"),
    Line("topology plan APP", "not looked at"),
    Line("topology check APP", "not looked at"),
    Line("topology check APP --strict", "not looked at", 1),
    Line("topology apply APP", "made: 0"),
    Line("topology prune APP", "set BUS_MANAGEMENT_URL", 2),
]
AFTER = [
    Line("doctor APP", "Doctor: errors:"),
    Line("events show APP order-1", "OrderPlaced"),
    Line("events trace APP talk", "PlaceOrder"),
    Line("events unknown APP", "NAME"),
    Line("events republish APP --to mailing --since 1h --dry-run", "to send to mailing"),
    Line("events recover APP --dry-run", "epoch"),
    Line("events recover APP", "a new epoch of the log has begun"),
    Line("deadletters list APP", "OrderPlaced"),
    Line("deadletters groups APP", "OrderPlaced"),
    Line("deadletters show APP LETTER", "mailing"),
    Line("stores copy APP BUS_LOG_URL OTHER_LOG_URL", "the copy at"),
    Line("stores copy APP BUS_LOG_URL OTHER_LOG_URL --finish --yes", "dead letters are kept", 2),
    Line("deadletters retry APP LETTER", "retried: 1|sent again"),
    Line("deadletters discard APP nothing", "nothing", 1),
    Line("deadletters edit APP nothing", "no such dead letter", 1),
    Line("aggregates check APP Customer", NO_STATES, 2),
    Line("aggregates store APP Customer", NO_STATES, 2),
    Line("aggregates drop-states APP Customer --yes"),
    Line("projections status APP", "PROJECTION"),
    Line("projections rebuild APP orders", NO_PROJECTION, 1),
    Line("projections refold APP orders --document 1", NO_PROJECTION, 1),
    Line("projections audit APP orders", NO_PROJECTION, 1),
    Line("projections rollback APP orders", NO_PROJECTION, 1),
    Line("projections drop APP orders orders__v1 --yes", NO_PROJECTION, 1),
    Line("projections fetch APP job", "these are followed: none", 1),
    Line("worker APP --check", "set BUS_HEALTH_PORT", 2),
    Line("claim APP --from other", "is that of this service"),
    Line("stores copy APP BUS_LOG_URL mongodb", "set BUS_MONGO_URL", 2),
]


@pytest.fixture
async def url(
    sql_url: str, amqp_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """The log's database; the environment is that of the service."""
    monkeypatch.delenv("BUS_MONGO_URL", raising=False)
    monkeypatch.setenv("BUS_AMQP_URL", amqp_url)
    monkeypatch.setenv("BUS_LOG_URL", sql_url)
    monkeypatch.setenv("ORDERING_SERVICE", unique)
    other = statements.create_database(sql_url, f"{unique}_b")
    monkeypatch.setenv("OTHER_LOG_URL", other)
    yield sql_url
    statements.drop_database(sql_url, f"{unique}_b")


async def said(line: Line, letter: str = "") -> Said:
    words = [word.replace("APP", TARGET).replace("LETTER", letter) for word in line.words.split()]
    result = await asyncio.to_thread(CliRunner().invoke, app, words)
    return Said(result.exit_code, result.output)


async def wrong(line: Line, letter: str = "") -> str:
    """What is wrong with what a command says; nothing if nothing is."""
    status, text = await said(line, letter)
    is_right = status == line.status and re.search(line.says, text)
    return "" if is_right else f"{line} ended with {status}: {text}"


def test_every_command_is_tried() -> None:
    tried = {" ".join(line.words.split()[:2]) for line in (*BEFORE, *AFTER)}
    alone = {words.split()[0] for words in tried} | {"worker", "relay"}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        for verb in getattr(command, "commands", ()):
            assert f"{name} {verb}" in tried | {"contracts check", "events tail"}
        assert name in alone


async def test_every_command_works_or_says_why_not(url: str, tmp_path: Path) -> None:
    problems = [await wrong(line) for line in BEFORE]
    contracts = tmp_path / "contracts.json"
    contracts.write_text((await said(Line("contracts export APP"))).text)
    problems.append(await wrong(Line(f"contracts check APP {contracts}")))
    engine = create_async_engine(url)
    await make_tables(engine)
    await engine.dispose()
    async with build(Settings()) as bus:
        place = PlaceOrder(order_id="1", customer="ada", cents=5)
        await bus.execute(place, correlation_id="talk")
        await bus.publish(OrderPlaced(order_id="x" * 300, cents=1))  # longer than its column
        letters = DeadLetters(bus)
        async with Worker(bus):

            async def given_up() -> bool:
                return bool(await letters.list())

            await until(given_up, "what fails is given up")
        (letter,) = await letters.list()
    problems += [await wrong(line, letter.id) for line in AFTER]
    assert not any(problems), "\n".join(filter(None, problems))


@pytest.mark.parametrize("verb", ["worker APP", "relay APP", "events tail APP"])
async def test_what_runs_until_it_is_stopped_does_its_work_and_ends(url: str, verb: str) -> None:
    engine = create_async_engine(url)
    await make_tables(engine)
    await engine.dispose()
    async with build(Settings()) as bus:
        await bus.execute(PlaceOrder(order_id="1", customer="ada", cents=5))
        words = verb.replace("APP", TARGET).split()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bus", *words),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        shows = asyncio.create_task(_shown(process, b"ItemAdded" if "tail" in verb else b""))
        try:

            async def works() -> bool:
                await bus.execute(AddItem(order_id="1", cents=1))
                return shows.done() if "tail" in verb else await _has_worked(url, verb)

            await until(works, f"{verb} does its work", within=60)
        finally:
            process.send_signal(signal.SIGTERM)
            status = await asyncio.wait_for(process.wait(), 60)
            shows.cancel()
    assert status == 0


async def _shown(process: asyncio.subprocess.Process, word: bytes) -> None:
    assert process.stdout
    async for line in process.stdout:
        if word and word in line:
            return


async def _has_worked(url: str, verb: str) -> bool:
    """A worker's handlers have written mails; a relay holds its lease."""
    table = "mails" if verb.startswith("worker") else "bus_leases"
    return bool(statements.run(url, f"SELECT * FROM {table}"))
