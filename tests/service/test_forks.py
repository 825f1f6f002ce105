"""Forks of a process that built its bus before: gunicorn --preload, say."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bus import Settings
from tests.service.wallet import Diary, build

ROOT = Path(__file__).parents[2]
CHILDREN, COMMANDS = 3, 60

PRELOADED = f"""
import asyncio, json, os, sys
from bus import Settings
from tests.service.wallet import Pay, build

bus = build(Settings(), None, sys.argv[1])  # before the forks, and not open

async def work(number):
    async with bus:
        pay = [Pay(wallet_id=f"w{{number}}-{{n}}", amount=1) for n in range({COMMANDS})]
        receipts = await asyncio.gather(*map(bus.execute, pay))
        os.write(1, (json.dumps([receipt.id for receipt in receipts]) + "\\n").encode())

for number in range({CHILDREN}):
    if not os.fork():
        asyncio.run(work(number))
        os._exit(0)
for _ in range({CHILDREN}):
    assert os.wait()[1] == 0
"""


async def test_children_of_one_process_store_what_each_of_them_was_told(
    real_settings: Settings, unique: str
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BUS_AMQP_URL": real_settings.amqp_url,
        "BUS_MONGO_URL": real_settings.mongo_url,
        "BUS_MONGO_DB": real_settings.mongo_db,
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PRELOADED, unique],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told = [id for line in done.stdout.splitlines() for id in json.loads(line)]
    assert len(set(told)) == CHILDREN * COMMANDS
    async with build(real_settings, Diary(), unique) as bus:
        stored = [commit.id async for commit in bus.runtime.event_log.scan(["wallet"])]
        assert sorted(stored) == sorted(told)


OPENED = """
import asyncio, os, sys
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from bus import ConfigurationError, Settings
from tests.service.wallet import build

client = {"motor": AsyncIOMotorClient, "pymongo": AsyncMongoClient}[sys.argv[2]](sys.argv[3])

async def use():
    await client.admin.command("ping")

async def refused():
    try:
        async with build(Settings(), None, sys.argv[1], client=client):
            return 1
    except ConfigurationError as error:
        return 0 if "the MongoDB client was opened before" in str(error) else 2

asyncio.run(use())
pid = os.fork()
if not pid:
    os._exit(asyncio.run(refused()))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_client_that_was_used_before_the_fork_is_refused(
    driver: str, real_settings: Settings, unique: str
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BUS_AMQP_URL": real_settings.amqp_url,
        "BUS_MONGO_URL": real_settings.mongo_url,
    }
    command = [sys.executable, "-c", OPENED, unique, driver, real_settings.mongo_url]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
