"""A service that was written for the version before runs unchanged."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from bus import Settings
from tests.end_to_end.processes import ServiceProcess
from tests.versions import former
from tests.waiting import patience, until
from tools.services.ports import LOOPBACK, free_ports

BANK = (former.BEFORE / "bank.py").read_text()

CHANGED = {
    "test_the_same_idempotency_key_posts_one_job": "its API draws another id at each repeat, which "
    "is another content under one key: IdConflict, a change that CHANGELOG.md tells of",
    "test_an_application_may_be_projected_before_its_job": "it makes a projector by hand, which "
    "takes collections and control by now",
    "test_a_watcher_goes_with_its_client": "it counts by a private name of the bus",
}
"""Tests of then that are not meant to pass any more, and why."""


@pytest.mark.usefixtures("amqp_url", "mongo_url")
@pytest.mark.parametrize(
    "files", ["test_jobboard.py", "test_http.py", "test_live_events.py test_page_files.py"]
)
async def test_its_own_tests_pass_in_memory_and_on_real_services(files: str) -> None:
    named = [f"tests/service/{name}" for name in files.split()]
    warned = await former.passed(former.BEFORE, *named, deselect=" or ".join(CHANGED))
    for one in warned:
        assert re.fullmatch(r"[\w.]+ is [\w.]+( and [\w.]+)* now(; the former name goes .*)?", one)


COMMANDS = [
    "topology handlers.app:build",
    "deadletters groups handlers.app:build",
    "projections status handlers.app:build",
    "projections audit handlers.app:build job_board",
    "events trace handlers.app:build trace-me",
    "contracts export handlers.app:build",
]


class Program(ServiceProcess):
    """A program of the service's, started as its scripts in `bin/` do."""

    def __init__(self, settings: Settings, log: Path, started: str, *arguments: str) -> None:
        self.started = started
        named = {"JOBBOARD_SERVICE": settings.mongo_db, "PYTHONPATH": former.PYTHONPATH}
        super().__init__(settings, log, sys.executable, "-m", *arguments, **named)


@pytest.fixture
async def board(real_settings: Settings, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Its API; a worker and a relay run beside it, as processes."""
    (port,) = free_ports(1)
    api, worker, relay = (
        Program(real_settings, tmp_path / name, *started)
        for name, *started in (
            ("api", "Uvicorn running", "handlers.http", "--port", str(port)),
            ("worker", "worker_started", "bus", "worker", "handlers.app:build"),
            ("relay", "connected", "bus", "relay", "handlers.app:build"),
        )
    )
    url = f"http://{LOOPBACK}:{port}"
    patient = httpx.AsyncClient(base_url=url, timeout=20 * patience())
    async with api, worker, relay, patient as client:
        for program in (api, worker, relay):
            await program.ready()
        yield client
        for program in (api, worker, relay):
            program.terminate()
        assert await worker.ended(20) == 0, worker.log()
        assert await relay.ended(20) == 0, relay.log()
        await api.ended(20)


async def test_its_api_worker_relay_page_and_commands_run(
    board: httpx.AsyncClient, real_settings: Settings
) -> None:
    posting = {"title": "Signaller", "description": "Night shifts."}
    traced = {"X-Correlation-ID": "trace-me"}
    posted = await board.post("/api/v1/jobs", json=posting, headers=traced)
    seen = {"Bus-Receipt": posted.headers["Bus-Receipt"]}
    job_id = posted.json()["id"]
    shown = (await board.get(f"/api/v1/jobs/{job_id}", headers=seen)).json()
    assert (shown["title"], shown["version"]) == ("Signaller", 1)
    letter = {"job_id": job_id, "applicant": "ada", "letter": "Take me."}
    applied = await board.post("/api/v1/applications", json=letter, headers=seen)
    assert applied.status_code == 201

    async with board.stream("GET", "/api/v1/jobs/live") as live:
        told = live.aiter_lines()
        await shows(told, total=1)
        assert (await board.put(f"/api/v1/jobs/{job_id}/archive")).status_code == 200
        await shows(told, total=0)

    async def is_closed() -> bool:
        page = (await board.get("/api/v1/applications", params={"applicant": "ada"})).json()
        return [one["status"] for one in page["items"]] == ["closed"]

    await until(is_closed, "the application for the archived job is closed")
    for path in ("/", "/docs", "/livez", "/readyz"):
        assert (await board.get(path)).status_code == 200, path
    for arguments in COMMANDS:
        await run(former.BEFORE, environment(real_settings), "bus", *arguments.split())


async def shows(told: AsyncIterator[str], *, total: int) -> None:
    """Reads the board as it is told until it shows so many jobs."""
    async with asyncio.timeout(30 * patience()):
        async for line in told:
            if line.startswith("data:") and json.loads(line[5:])["total"] == total:
                return


async def test_readmes_service_runs_as_it_stands(
    real_settings: Settings, tmp_path: Path, unique: str
) -> None:
    """But for its name, which others use at the same time."""
    (tmp_path / "bank.py").write_text(BANK.replace('Bus("bank"', f'Bus("{unique}"'))
    for _ in range(2):
        printed = await run(tmp_path, environment(real_settings), "bank")
        assert printed == "owner='Ada' balance=0\n"


async def test_readmes_service_runs_in_memory(tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(BANK.replace("Settings())", "Settings.in_memory())"))
    assert await run(tmp_path, {}, "bank") == "owner='Ada' balance=0\n"


def environment(settings: Settings) -> dict[str, str]:
    return {
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
        "JOBBOARD_SERVICE": settings.mongo_db,
    }


async def run(folder: Path, environment: Mapping[str, str], *arguments: str) -> str:
    """What a module prints as a program."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": former.PYTHONPATH, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, wrong = await running.communicate()
    assert running.returncode == 0, wrong.decode()
    return printed.decode()
