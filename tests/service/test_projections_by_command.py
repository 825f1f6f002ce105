"""`bus projections`, as people and programs call it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bus import Bus, Projections, Settings, Worker
from bus.cli.main import app
from handlers.app import build
from read_models.job_board import ListJobs
from tests.service.audit_contract import damage
from tests.service.rebuild_contract import Brisk
from write_models.jobs import PostJob

TARGET = "handlers.app:build"


@pytest.fixture
async def bus(
    monkeypatch: pytest.MonkeyPatch, environment: Settings, unique: str
) -> AsyncIterator[Bus]:
    """The job board with three jobs, and its worker."""
    monkeypatch.setenv("JOBBOARD_SERVICE", unique)
    async with build(environment, unique) as bus, Worker(bus):
        for number in range(3):
            receipt = await bus.execute(
                PostJob(job_id=f"j{number}", title=f"Job {number}", description="d")
            )
        await bus.query(ListJobs(), after=receipt, timeout=30)
        yield bus


async def run(*words: str) -> Result:
    command, *arguments = words
    words = ("projections", command, TARGET, *arguments)
    return await asyncio.to_thread(CliRunner().invoke, app, list(words))


async def as_json(*words: str, status: int = 0) -> Any:
    result = await run(*words, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


async def test_what_is_declared_is_listed_without_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUS_MONGO_URL", raising=False)
    board = next(one for one in await as_json("list") if one["projection"] == "job_board")
    assert board == {
        "projection": "job_board",
        "version": 1,
        "categories": ["job", "application"],
        "events": ["ApplicationSubmitted", "JobArchived", "JobPosted", "JobRevised"],
        "partitions": 2,
        "versions_in_documents": False,
    }
    assert "checkpoints" in (await run("list")).stdout


class TestOnALiveSystem(Brisk):
    async def test_a_rebuild_is_waited_for_and_gone_back_from(self, bus: Bus) -> None:
        assert await as_json("rebuild", "job_board") == {
            "collection": "job_board__v1r2",
            "read": True,
        }
        rows = await as_json("status", "job_board")
        assert {row["collection"]: row["state"] for row in rows} == {
            "job_board__v1": "kept",
            "job_board__v1r2": "read",
        }
        (read,) = (row for row in rows if row["state"] == "read")
        assert (read["lag"]["events"], read["parked"], read["replayed"]) == (0, 0, 3)
        assert (await bus.query(ListJobs())).total == 3
        back = await run("rollback", "job_board")
        assert back.stdout == "job_board__v1 is read from now on\n"
        gone = await run("drop", "job_board", "job_board__v1r2", "--yes")
        assert gone.stdout == "job_board__v1r2 is gone\n"
        (row,) = await as_json("status", "job_board")
        assert (row["collection"], row["state"]) == ("job_board__v1", "read")
        assert "job_board" in (await run("status")).stdout

    async def test_an_audit_tells_what_differs_and_repairs_it(self, bus: Bus) -> None:
        assert (await run("audit", "job_board")).stdout == (
            "job_board__v1: 3 documents compared, 0 differ\n"
        )
        await damage(bus, "job_board", "j1", {"title": "Another"})
        told = await as_json("audit", "job_board", "--all", status=1)
        assert (told["collection"], told["compared"]) == ("job_board__v1", 3)
        assert told["differences"] == [
            {
                "key": "j1",
                "kind": "differs",
                "repaired": False,
                "fields": {"title": {"found": "Another", "expected": "Job 1"}},
            }
        ]
        shown = await run("audit", "job_board", "--repair")
        assert shown.exit_code == 0
        assert "j1: differs, repaired\n    title: Another, to be Job 1\n" in shown.stdout
        await damage(bus, "job_board", "j2", {"title": "Another"})
        part = await as_json("refold", "job_board", "--stream", "job-j2")
        assert [(one["key"], one["repaired"]) for one in part["differences"]] == [("j2", True)]
        assert (await Projections(bus).audit("job_board")).differences == ()

    async def test_what_is_not_there_is_a_clear_error(self, bus: Bus) -> None:
        for words, problem in (
            (("audit", "jobs"), "there is no projection 'jobs'; this service has job_board,"),
            (("rollback", "job_board"), "there is nothing to roll back to"),
            (("drop", "job_board", "job_board__v1", "--yes"), "readers read 'job_board__v1'"),
            (("refold", "job_board"), "say which part"),
            (("fetch", "job"), "no projection follows the category 'job'"),
        ):
            result = await run(*words)
            assert result.exit_code == 1, result.output
            assert problem in result.stderr
