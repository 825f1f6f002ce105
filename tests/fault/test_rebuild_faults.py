"""A rebuild under load, whose builder is killed: nobody who reads sees anything of it."""

import os
import time
from pathlib import Path

import pytest

from bus import Projections, Settings
from handlers.app import build
from tests.end_to_end.processes import WorkerProcess
from tests.fault.boards import EVENTS_OF_A_JOB, Board, fill, rebuilt
from tests.waiting import until


async def rebuild_under_load(
    settings: Settings, service: str, folder: Path, *, jobs: int, rate: float, kills: int
) -> str:
    """Checks it all; tells what was measured."""
    await fill(settings, jobs)
    async with build(settings, service) as bus:
        commits = jobs * EVENTS_OF_A_JOB
        projections = Projections(bus)
        log = folder / "worker.log"
        began = time.monotonic()
        async with WorkerProcess(settings, service, log, target="handlers.app:build") as worker:

            async def all_read() -> bool:
                return all(one.state == "read" for one in await projections.status())

            await until(all_read, "all four projections are built", within=900)
            first = time.monotonic() - began
            board = Board(bus, jobs)
            async with board.used(rate):
                done = await rebuilt(bus, worker, kills, commits)
            assert board.wrong == []
            assert len(done.kills) == kills
            assert [after for _, after in done.kills] == sorted(after for _, after in done.kills)
            audited = await projections.audit("job_board")
            assert audited.differences == ()
            assert (audited.collection, audited.parked) == (done.collection, ())
            assert audited.compared >= jobs
    return (
        f"{commits} commits: all projections built in {first:.0f} s; under {rate:g} commands/s "
        f"rebuilt in {done.seconds:.0f} s with kills at {[before for before, _ in done.kills]} "
        f"commits; {board.commands} commands, {board.reads} reads, none wrong; "
        f"{audited.compared} documents audited, none differs"
    )


async def test_a_rebuild_whose_builder_is_killed_is_seen_by_no_reader(
    real_settings: Settings, unique: str, tmp_path: Path
) -> None:
    print(await rebuild_under_load(real_settings, unique, tmp_path, jobs=1000, rate=40, kills=1))


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_long_rebuild_whose_builder_is_killed_three_times_is_seen_by_no_reader(
    real_settings: Settings, unique: str, tmp_path: Path
) -> None:
    jobs = int(os.environ.get("REBUILD_JOBS", "50000"))
    print(await rebuild_under_load(real_settings, unique, tmp_path, jobs=jobs, rate=200, kills=3))
