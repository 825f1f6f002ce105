"""The statistics, a third service: fed from Kafka, without RabbitMQ, while its worker is killed."""

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus import Bus, NotBuilt, Settings, Worker
from handlers import app, statistics_app
from read_models.jobs_per_day import CountJobs
from read_models.stores import EVENTS
from tests.databases import drop
from tests.end_to_end.processes import ROOT, WorkerProcess
from tests.waiting import in_parts, until
from write_models.jobs import ArchiveJob, PostJob

JOBS = 300
KILLS = 2
WHEN = {"JobPosted": "posted", "JobArchived": "archived"}

Names = dict[str, str]


@pytest.fixture
def names(unique: str, kafka_server: str, monkeypatch: pytest.MonkeyPatch) -> Names:
    """What the services are called, here and in their processes, and where Kafka is."""
    found = {
        "JOBS_SERVICE": unique,
        "STATISTICS_SERVICE": f"{unique}_statistics",
        EVENTS: kafka_server,
    }
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    return found


@pytest.fixture
async def statistics(mongo_url: str, names: Names) -> AsyncIterator[Settings]:
    """The settings of the third service: MongoDB, and no RabbitMQ."""
    name = names["STATISTICS_SERVICE"]
    yield Settings(amqp_url="memory://", mongo_url=mongo_url, mongo_db=name)
    await drop(mongo_url, name)


@pytest.fixture
async def board(amqp_url: str, mongo_url: str, unique: str, names: Names) -> AsyncIterator[Bus]:
    """The job board, which sends its events to Kafka."""
    settings = Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=unique)
    async with app.build(settings, unique) as bus, Worker(bus):
        yield bus
    await drop(mongo_url, unique)


async def post(board: Bus, first: int, count: int) -> None:
    """Posts jobs, and archives every third one."""

    async def one(number: int) -> None:
        await board.execute(PostJob(job_id=f"j{number}", title="Baker", description="Bread"))
        if number % 3 == 0:
            await board.execute(ArchiveJob(job_id=f"j{number}"))

    await in_parts((one(number) for number in range(first, first + count)), of=20)


async def by_the_log(board: Bus) -> Counter[tuple[str, str]]:
    """How often what happened on each day, by the log of the job board."""
    commits = [commit async for commit in board.runtime.event_log.scan(["job"])]
    return Counter(
        (str(commit.time.date()), WHEN[event.name]) for commit in commits for event in commit.events
    )


async def counted(statistics: Bus) -> Counter[tuple[str, str]]:
    """The same, as the third service answers."""
    try:
        days = await statistics.query(CountJobs())
    except NotBuilt:
        return Counter()
    return Counter(
        {(day.id, what): getattr(day, what) for day in days for what in ("posted", "archived")}
    )


async def test_each_job_is_counted_once_while_the_worker_is_killed(
    board: Bus, statistics: Settings, names: Names, tmp_path: Path
) -> None:
    chance = random.Random(3)
    await post(board, 0, JOBS // 2)
    log = tmp_path / "statistics.log"
    target = "handlers.statistics_app:build"
    async with (
        statistics_app.build(statistics) as third,
        WorkerProcess(statistics, "", log, target=target, names=names) as worker,
    ):
        going = asyncio.create_task(post(board, JOBS // 2, JOBS // 2))
        for _ in range(KILLS):
            await worker.ready()
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            worker.kill()
            await worker.ended(5)
            log.write_text("")
            await worker.start()
        await going

        async def is_right() -> bool:
            return await counted(third) == await by_the_log(board)

        await until(is_right, "the counts are those of the log", within=60)
        assert sum((await counted(third)).values()) == JOBS + JOBS // 3
        expected = [
            f"{day.id}  {day.posted} posted, {day.archived} archived"
            for day in await third.query(CountJobs())
        ]
        assert (await asyncio.to_thread(printed, statistics)).splitlines() == expected


def printed(settings: Settings) -> str:
    """What the command for people says."""
    return command(BUS_AMQP_URL=settings.amqp_url, BUS_MONGO_DB=settings.mongo_db).stdout


def command(**variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "handlers.statistics_app"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


def test_without_kafka_the_command_says_what_is_missing(mongo_url: str) -> None:
    done = command(BUS_MONGO_URL=mongo_url, BUS_AMQP_URL="memory://", **{EVENTS: ""})
    assert done.returncode == 1
    assert done.stderr.startswith(f"statistics: the statistics are fed from Kafka: set {EVENTS}")
