"""The soak itself, small: it runs, it counts, and it finds nothing wrong."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.stores import available
from tools.services import PostgreSQLNode
from tools.services.jars.kafka import KafkaNode
from tools.services.jars.search import OpenSearchNode
from tools.soak.log import LOGS

ROOT = Path(__file__).parents[2]
FAULTS = "wire_cut=6,consumer_kill=1,broker_kill=1"
SQL_FAULTS = "log_wire_cut=6,log_kill=1,log_connections_ended=1"
SEED = "32"  # draws one of each kind first, and then wire cuts
SINKS = "postgresql,opensearch,kafka"
SINK_FAULTS = "sink_wire_cut=3,sink_kill=1,worker_frozen=1,fed_kill=1,sink_refuses=1"
SINK_SEED = "71"  # the same: Kafka refuses, the engine is killed, ...
PROMISED = {
    "commands", "events", "faults", "lost", "applied_twice", "out_of_order", "slowest_recovery_s",
    "seed", "recoveries", "unknown_outcomes", "minutes", "versions", "wrong_documents", "leaked",
    "untrue_words", "log",
}  # fmt: skip

WRONGS = (
    "lost", "applied_twice", "out_of_order", "untrue_words", "wrong_documents", "leaked",
    "problems",
)  # fmt: skip


def soak(*options: str, folder: Path, within: float = 110) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [ROOT / "bin" / "soak", *options],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=within,
    )


def test_a_short_soak_loses_nothing_applies_nothing_twice_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    done = soak("--minutes", "0.15", "--faults", FAULTS, "--seed", SEED, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told.keys() >= PROMISED
    assert nothing_is_wrong(told)
    assert told["faults"].keys() == {"wire_cut", "consumer_kill", "broker_kill"}
    assert told["events"] > 200
    assert list(tmp_path.iterdir()) == []


def test_a_short_soak_with_its_log_in_postgresql_finds_nothing_wrong_there(tmp_path: Path) -> None:
    available(PostgreSQLNode)
    options = ("--minutes", "0.15", "--faults", SQL_FAULTS, "--seed", SEED, "--json")
    done = soak("--log", "postgresql", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert nothing_is_wrong(told)
    assert told["log"] == "postgresql"
    assert "postgresql" in told["versions"]
    assert told["faults"].keys() == {"log_wire_cut", "log_kill", "log_connections_ended"}
    assert told["events"] > 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(400)
def test_a_short_soak_of_projections_kept_elsewhere_finds_nothing_wrong_there(
    tmp_path: Path,
) -> None:
    for kind in (PostgreSQLNode, OpenSearchNode, KafkaNode):
        available(kind)
    options = ("--minutes", "0.5", "--authors", "12", "--faults", SINK_FAULTS, "--seed", SINK_SEED)
    done = soak("--sinks", SINKS, *options, "--json", folder=tmp_path, within=380)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert nothing_is_wrong(told)
    assert told["sinks"] == SINKS.split(",")
    assert {*told["sinks"]} <= told["versions"].keys()
    assert "sink_refuses" in told["faults"]
    assert told["events"] > 100
    assert told["documents"] > told["events"], "a record for each event, and rows"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("log", LOGS)
def test_minutes_of_all_faults_that_a_log_can_have(log: str, tmp_path: Path) -> None:
    done = soak("--log", log, "--minutes", "5", "--json", folder=tmp_path, within=800)
    assert done.returncode == 0, done.stderr
    assert nothing_is_wrong(json.loads(done.stdout))


@pytest.mark.soak
@pytest.mark.timeout(2000)
def test_minutes_of_all_faults_that_stores_of_projections_can_have(tmp_path: Path) -> None:
    options = ("--minutes", "10", "--authors", "12", "--json")
    done = soak("--sinks", *options, folder=tmp_path, within=1900)
    assert done.returncode == 0, done.stderr
    assert nothing_is_wrong(json.loads(done.stdout))


def nothing_is_wrong(told: dict[str, Any]) -> bool:
    return {name: told[name] for name in WRONGS} == dict.fromkeys(WRONGS, 0)


def test_a_short_flat_run_watches_three_processes_and_leaves_nothing(tmp_path: Path) -> None:
    options = ("--flat", "0.1", "--idle", "0.1", "--rate", "50", "--json")
    done = soak(*options, folder=tmp_path, within=300)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["commands"] > 50, done.stderr
    assert told["failed"] == {}
    for phase in ("load", "idle"):
        for process in ("worker", "relay", "api"):
            watched = told["phases"][phase][process]
            assert watched["objects"]["last"] > 10_000
            assert watched["tasks"]["last"] > 1
            assert watched["connections"]["last"] > 1
    assert [what for what in told["grows"] if "did not end" in what] == []
    assert done.returncode == (1 if told["grows"] else 0)
    assert told["grows"] or list(tmp_path.iterdir()) == []
