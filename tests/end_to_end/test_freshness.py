"""Receipts between processes: written through one API, read through another, projected by a third.

Nothing but HTTP headers goes from the one to the other.
"""

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bus import Settings
from tests.end_to_end.processes import ApiProcess, WorkerProcess
from tests.waiting import patience

JOBS, APPLICATIONS = "/api/v1/jobs", "/api/v1/applications"
POSTING = {"title": "Signaller", "description": "Night shifts on the northern line."}
ROUNDS = 20


@asynccontextmanager
async def api(
    settings: Settings, service: str, log: Path, *options: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API of its own, which waits for what a receipt tells of as long as it may."""
    process, headers = ApiProcess(settings, service, log, *options), {"Prefer": "wait=30"}
    client = httpx.AsyncClient(base_url=process.url, headers=headers, timeout=60)
    async with process, client:
        await process.ready()
        yield client


def worker(settings: Settings, service: str, log: Path) -> WorkerProcess:
    return WorkerProcess(settings, service, log, target="handlers.app:build")


def seen(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 201, answer.text
    return {"Bus-Receipt": answer.headers["Bus-Receipt"]}


async def test_what_one_api_wrote_another_one_reads_at_once(
    real_settings: Settings, unique: str, tmp_path: Path
) -> None:
    async with (
        api(real_settings, unique, tmp_path / "writer") as writer,
        api(real_settings, unique, tmp_path / "reader") as reader,
        worker(real_settings, unique, tmp_path / "worker") as projecting,
    ):
        await projecting.ready()
        for number in range(1, ROUNDS + 1):
            posted = await writer.post(JOBS, json=POSTING)
            board = await reader.get(JOBS, headers=seen(posted))
            assert board.json()["total"] == number
            letter = {"job_id": posted.json()["id"], "applicant": "ada", "letter": "Take me."}
            applied = await reader.post(APPLICATIONS, json=letter, headers=seen(posted))
            history = await writer.get(
                APPLICATIONS, params={"applicant": "ada"}, headers=seen(applied)
            )
            assert history.json()["total"] == number


async def test_while_the_worker_is_off_the_answer_says_so_in_time(
    real_settings: Settings, unique: str, tmp_path: Path
) -> None:
    async with (
        api(real_settings, unique, tmp_path / "writer") as writer,
        api(real_settings, unique, tmp_path / "reader") as reader,
    ):
        receipt = seen(await writer.post(JOBS, json=POSTING))
        for wait in (1, 2):
            started = time.monotonic()
            answer = await reader.get(JOBS, headers={**receipt, "Prefer": f"wait={wait}"})
            took = time.monotonic() - started
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json()["type"] == "/docs#not-caught-up"
            assert answer.json()["detail"] == "try again in a while"
            assert wait <= took < wait + 4 * patience()
        assert (await reader.get(JOBS)).json()["total"] == 0
        async with worker(real_settings, unique, tmp_path / "worker") as projecting:
            await projecting.ready()
            board = await reader.get(JOBS, headers=receipt)
            assert board.json()["total"] == 1


@pytest.mark.parametrize("options", [[], ["--with-worker"]], ids=["alone", "with a worker"])
async def test_sigterm_ends_an_api_with_open_streams_at_once(
    real_settings: Settings, unique: str, tmp_path: Path, options: list[str]
) -> None:
    process = ApiProcess(real_settings, unique, tmp_path / "api", *options)
    async with process, httpx.AsyncClient(base_url=process.url, timeout=60) as client:
        await process.ready()
        async with client.stream("GET", f"{JOBS}/live") as answer:
            lines = answer.aiter_lines()
            while not (await anext(lines)).startswith("data:"):
                pass
            started = time.monotonic()
            process.terminate()
            assert await process.ended(15) == -signal.SIGTERM  # as uvicorn ends, once it is done
            assert time.monotonic() - started < 8 * patience()
    assert "Application shutdown complete" in process.log()
    assert "Cancel" not in process.log()
