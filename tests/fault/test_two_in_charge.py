"""Two workers that both take themselves for the one in charge: one stands still within a batch,
another one takes over, and then the first goes on, in the midst of what it was about to write."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus import Bus, DeadLetters, Settings, Unavailable, Worker
from tests.fault.frozen_in_sink import built
from tests.service import searching, sending, sheets
from tests.service.topics import place, records_in
from tests.waiting import patience, until
from tools.faults.proxy import Proxy
from tools.services.process import thread_states

ROOT = Path(__file__).parents[2]
KEYS = [f"j{number}" for number in range(6)]

Change = Callable[[Bus, str, bool], Awaitable[object]]
Compare = Callable[[Bus, str, int], Awaitable[bool]]


async def change_sheets(bus: Bus, key: str, is_first: bool) -> None:
    await bus.execute(
        sheets.Post(job_id=key, title=f"Job {key}") if is_first else sheets.Apply(job_id=key)
    )


async def sheets_are_right(bus: Bus, url: str, rounds: int) -> bool:
    total = await bus.query(sheets.CityTotal(city="Bonn"))
    rows = await asyncio.to_thread(sheets.read, url, "jobs_table")
    return rows == sheets.expected(KEYS, rounds - 1) and total == len(KEYS) * rounds


async def change_jobs(bus: Bus, key: str, is_first: bool) -> None:
    """A job has another id each round, because towns are what several streams feed."""
    number = 0 if is_first else int(os.urandom(6).hex(), 16)
    await bus.execute(searching.Post(job_id=f"{key}-{number}", town=key))


async def indices_are_right(bus: Bus, url: str, rounds: int) -> bool:
    receipt = await searching.post(bus, [f"last{os.urandom(4).hex()}"], title="last")
    titles = await bus.query(searching.FindJobs(word="baker"), after=receipt, timeout=5)
    towns = await bus.query(searching.CountTowns(), after=receipt, timeout=5)
    return len(titles) == len(KEYS) * rounds and all(towns[key] == rounds for key in KEYS)


async def change_accounts(bus: Bus, key: str, is_first: bool) -> None:
    await bus.execute(sending.Pay(account_id=key, amount=1))


async def topic_is_right(bus: Bus, url: str, rounds: int) -> bool:
    records = await records_in(url, bus.service)
    places = [place(record) for record in records]
    assert sending.in_order(places)
    ids = {(place(record), dict(record.headers)["id"]) for record in records}
    assert len(ids) == len(set(places)), "a repeat has the id of the first"
    return set(places) == await sending.places_in_log(bus)


@pytest.fixture
def service_settings(real_settings: Settings) -> Settings:
    return real_settings.model_copy(update={"sweep_every": 1.0})


@pytest.mark.parametrize("when", ["before", "after"])
async def test_rows_of_a_table_that_two_workers_write(
    service_settings: Settings, sql_url: str, unique: str, when: str
) -> None:
    await both_in_charge(
        "table", when, service_settings, unique, sql_url, change_sheets, sheets_are_right
    )


@pytest.mark.parametrize("when", ["before", "after"])
async def test_documents_of_an_index_that_two_workers_write(
    service_settings: Settings, search_url: str, unique: str, when: str
) -> None:
    await both_in_charge(
        "index", when, service_settings, unique, search_url, change_jobs, indices_are_right
    )


@pytest.mark.parametrize("when", ["before", "after"])
async def test_records_of_a_topic_that_two_workers_send(
    service_settings: Settings, kafka_server: str, unique: str, when: str
) -> None:
    await both_in_charge(
        "topic", when, service_settings, unique, kafka_server, change_accounts, topic_is_right
    )


async def both_in_charge(
    kept_in: str,
    when: str,
    settings: Settings,
    service: str,
    url: str,
    change: Change,
    is_right: Compare,
) -> None:
    rounds = 0
    async with Proxy(settings.amqp_url) as wire, built(kept_in, settings, service, url) as bus:

        async def more() -> None:
            nonlocal rounds
            for key in KEYS:
                await change(bus, key, rounds == 0)
            rounds += 1

        async def right() -> bool:
            try:
                return await is_right(bus, url, rounds)
            except Unavailable:
                return False

        own = settings.model_copy(update={"amqp_url": wire.url})
        async with running(when, kept_in, own, service, url) as late:

            async def stands_still() -> bool:
                await more()
                await asyncio.sleep(0.1)  # what one search returns is bounded
                return thread_states(late.pid) <= {"T"}

            await until(stands_still, "the worker stands still within a batch", within=60)
            await more()
            wire.cut()  # the broker takes it for gone, and it does not know
            async with Worker(bus):
                await more()
                await until(right, "the other one makes up for it", within=90)
                late.send_signal(signal.SIGCONT)
                assert late.stdout
                async with asyncio.timeout(60 * patience()):
                    assert await late.stdout.readline() == b"went on\n"
                for _ in range(3):
                    await more()
                await until(right, "both have left what the log says", within=90)
                assert not await DeadLetters(bus).streams()


@asynccontextmanager
async def running(
    when: str, kept_in: str, settings: Settings, service: str, url: str
) -> AsyncIterator[Process]:
    """The worker that is to stand still, until the end of the block."""
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
        "BUS_SWEEP_EVERY": str(settings.sweep_every),
        "PYTHONPATH": str(ROOT),
    }
    words = ["-m", "tests.fault.frozen_in_sink", when, kept_in, service, url]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=environment, stdout=PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()
