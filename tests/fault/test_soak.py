"""The soak itself, small: it runs, it counts, and it finds nothing wrong."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FAULTS = "wire_cut=6,consumer_kill=1,broker_kill=1"
SEED = "32"  # draws a consumer kill, a wire cut and a broker kill first, and then wire cuts
PROMISED = {
    "commands", "events", "faults", "lost", "applied_twice", "out_of_order", "slowest_recovery_s",
    "seed", "recoveries", "unknown_outcomes", "minutes", "versions", "wrong_documents", "leaked",
}  # fmt: skip


def soak(*options: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "bin" / "soak", *options],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_a_short_soak_loses_nothing_applies_nothing_twice_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    done = soak("--minutes", "0.15", "--faults", FAULTS, "--seed", SEED, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told.keys() >= PROMISED
    wrongs = ("lost", "applied_twice", "out_of_order", "wrong_documents", "leaked", "problems")
    assert {name: told[name] for name in wrongs} == dict.fromkeys(wrongs, 0)
    assert told["faults"].keys() == {"wire_cut", "consumer_kill", "broker_kill"}
    assert told["events"] > 200
    assert list(tmp_path.iterdir()) == []


def test_a_short_flat_run_watches_three_processes_and_leaves_nothing(tmp_path: Path) -> None:
    done = soak("--flat", "0.1", "--idle", "0.1", "--rate", "50", "--json", folder=tmp_path)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["commands"] > 50, done.stderr
    assert told["failed"] == {}
    for phase in ("load", "idle"):
        for process in ("worker", "relay", "api"):
            watched = told["phases"][phase][process]
            assert watched["objects"]["last"] > 10_000
            assert watched["tasks"]["last"] > 1
            assert watched["connections"]["last"] > 1
    assert done.returncode == (1 if told["grows"] else 0)
    assert told["grows"] or list(tmp_path.iterdir()) == []
