"""Two processes send commands for the same streams at the same time, on each store."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bus import Settings
from tests.fault.counting import COUNTER, JOURNAL, SHARED, TRY, build, entries, make_journals
from tests.waiting import patience

ROOT = Path(__file__).parents[2]
OWN = 25


@asynccontextmanager
async def process(name: str, settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ready to send."""
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
        "BUS_LOG_URL": settings.log_url,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.fault.counting", name, str(OWN)]
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=pipe, stdout=pipe
    )
    try:
        assert running.stdout
        assert await running.stdout.readline() == b"ready\n"
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def test_each_command_of_two_processes_has_one_outcome_and_one_version(
    store_settings: Settings,
) -> None:
    await make_journals(store_settings, ["a"])
    async with (
        build(store_settings) as bus,
        process("one", store_settings) as one,
        process("two", store_settings) as two,
        asyncio.timeout(90 * patience()),
    ):
        ended = await asyncio.gather(one.communicate(b"go\n"), two.communicate(b"go\n"))
        told: list[dict[str, Any]] = [json.loads(out) for out, _ in ended]
        first, second = (each["versions"] for each in told)
        shared = first.keys() & second.keys()
        assert len(shared) == 2 * SHARED
        assert [first[id] for id in shared] == [second[id] for id in shared]
        said = {attempt: word for each in told for attempt, word in each["said"].items()}
        for stream in (f"{COUNTER}a", f"{JOURNAL}a"):
            stored = await bus.runtime.event_log.read(stream)
            assert [one.first for one in stored] == [*range(1, 2 * OWN + SHARED + 1)]
            assert {one.id: {stream: one.first} for one in stored} == {
                id: versions for id, versions in (first | second).items() if stream in versions
            }
            for one_commit in stored:
                assert said[one_commit.headers[TRY]] in ("accepted", "OutcomeUnknown")
        assert await entries(store_settings) == {"a": 2 * OWN + SHARED}
