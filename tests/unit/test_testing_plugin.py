"""The pytest plugin: what its fixtures give, and that they leave nothing behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

from bus import Settings, ambient
from bus.testing import HeldTime, ambient_source
from bus.testing.plugin import Chaos
from tests.service.wallet import GetWallet, Pay, WalletView, build

ROOT = Path(__file__).parents[2]

FAILING = """
import asyncio
from tests.service.wallet import build

def test_that_fails(chaos):
    async def run():
        async with chaos(build) as world:
            assert str(world) == ""
    asyncio.run(run())

def test_without_chaos():
    assert False
"""


def test_frozen_time_stands_still_until_it_is_moved(frozen_time: HeldTime) -> None:
    before = ambient.now()
    ids = [ambient.new_id(), ambient.new_id()]
    assert ids[0] != ids[1]
    assert ambient.now() == before
    frozen_time.advance(-3600)
    assert (before - ambient.now()).total_seconds() == 3600


def test_held_ids_and_chance_follow_from_the_seed() -> None:
    def drawn(seed: int) -> tuple[str, float]:
        with ambient_source(HeldTime(seed)):
            return ambient.new_id(), ambient.jittered(1)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_time_runs_again_after_the_test_that_held_it() -> None:
    assert abs(ambient.now().timestamp() - time.time()) < 60


async def test_the_chaos_fixture_begins_with_a_seed(chaos: Chaos) -> None:
    async with chaos(build) as world:
        await world.execute(Pay(wallet_id="a", amount=3))
        await world.settle()
        assert await world.query(GetWallet(wallet_id="a")) == WalletView(id="a", total=3)


def test_names_and_settings(memory_settings: Settings, unique_service: str) -> None:
    assert build(memory_settings, service=unique_service).service == unique_service


def test_a_failure_names_its_seed_and_nothing_else_is_needed(tmp_path: Path) -> None:
    """No plugin for asyncio, and no configuration."""
    (tmp_path / "test_it.py").write_text(FAILING)
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "bus.testing.plugin",
            "-p",
            "no:asyncio",
            "--chaos-seed=77",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    ).stdout
    assert "2 failed" in shown
    assert shown.count("repeat this with --chaos-seed=77") == 1
