"""Who only looks changes nothing: no collection, no index, no document, no exchange, no queue."""

import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from typer.testing import CliRunner

from bus import Bus, DeadLetters, Projections, Settings
from bus.cli.loading import load
from bus.cli.main import app
from bus.transports.rabbitmq.connection import checked_urls, connect_any
from bus.transports.rabbitmq.declare import missing

TARGETS = ["handlers.app:build", "handlers.applications_app:build"]

Stored = dict[str, Any]
LATER = 60.0


@pytest.fixture(params=TARGETS)
def target(
    request: pytest.FixtureRequest,
    environment: Settings,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The job board, or the applications, which follow another service; nobody ever ran them."""
    for name in ("jobboard", "applications", "jobs"):
        monkeypatch.setenv(f"{name.upper()}_SERVICE", f"{unique}_{name}")
    return str(request.param)


async def stored(settings: Settings) -> Stored:
    """All that the database holds: documents and indexes by collection. But for the note that an
    audit leaves of itself, which metrics tell of."""
    is_other = {"_id": {"$not": re.compile("/audit$")}}
    found: Stored = {}
    async with AsyncMongoClient[Stored](settings.mongo_url) as client:
        database = client[settings.mongo_db]
        for name in sorted(await database.list_collection_names()):
            found[f"{name} indexes"] = await database[name].index_information()
            found[name] = await database[name].find(is_other).sort([("_id", 1)]).to_list(None)
    return found


async def at_the_broker(bus: Bus) -> list[str]:
    """The exchanges and queues of a service that are there."""
    session = await connect_any(checked_urls([bus.runtime.settings.amqp_url], 7), 5.0)
    try:
        gone = await missing(session, bus.runtime.topology)
    finally:
        await session.close()
    names = {f"queue {one.name}" for one in bus.runtime.topology.queues}
    names |= {f"exchange {bus.service}.{kind}" for kind in ("commands", "events")}
    return sorted(names - set(map(str, gone)))


def reading(bus: Bus) -> list[list[str]]:
    """Every command that only reads."""
    projection = bus.runtime.projections[0].name
    since = ["--since", "1h", "--dry-run"]
    return [
        ["projections", "list"],
        ["projections", "status"],
        ["projections", "audit", projection],
        ["deadletters", "list"],
        ["deadletters", "groups"],
        ["deadletters", "show", f"{bus.service}.commands/x/y"],
        ["deadletters", "show", f"{projection}/job-x"],
        ["events", "show", "job-x"],
        ["events", "trace", "c1"],
        ["events", "unknown"],
        ["events", "republish", "--to", "commands", *since],
        ["events", "republish", "--to", projection, *since],
        ["events", "recover", "--dry-run"],
        ["topology"],
        ["contracts", "export"],
    ]


async def run(words: Sequence[str], target: str) -> None:
    first, *rest = words
    last = [] if first == "topology" else [rest.pop(0)]
    result = await asyncio.to_thread(CliRunner().invoke, app, [first, *last, target, *rest])
    assert result.exit_code in (0, 1), (words, result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit), words


async def test_no_command_that_reads_makes_anything_where_there_is_nothing(
    target: str, environment: Settings
) -> None:
    bus = load(target, Settings)
    for words in reading(bus):
        await run(words, target)
        assert (words, await stored(environment)) == (words, {})
        assert (words, await at_the_broker(bus)) == (words, [])


async def test_asking_for_health_while_looking_makes_nothing(
    target: str, environment: Settings
) -> None:
    async with load(target, Settings).looking() as bus:
        health = await bus.health()
        assert health.ready
        assert not [one for one in health.problems if one.part in ("broker", "database")]
        assert await Projections(bus).status() == []
        assert await DeadLetters(bus).list() == []
    assert await stored(environment) == {}
    assert await at_the_broker(bus) == []


async def test_following_the_log_makes_nothing(target: str, environment: Settings) -> None:
    words = [sys.executable, "-m", "bus", "events", "tail", target]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
    assert process.stderr
    async with asyncio.timeout(LATER):
        while b'"connected"' not in (line := await process.stderr.readline()):
            assert line, "it ended"
        await asyncio.sleep(1)  # what it would make it makes as it opens
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert await stored(environment) == {}
    assert await at_the_broker(load(target, Settings)) == []


async def test_no_command_that_reads_changes_what_there_is(
    target: str, environment: Settings
) -> None:
    async with load(target, Settings):
        pass
    before = await stored(environment)
    assert before
    for words in reading(load(target, Settings)):
        await run(words, target)
        assert (words, await stored(environment)) == (words, before)
