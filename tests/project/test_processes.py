"""What only processes of their own show: hashes of theirs, what is imported, how a program ends."""

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.unit.test_digest import order
from tests.unit.test_steps import SHOP, shape

ROOT = Path(__file__).parents[2]
TINY = """
from bus import Bus, Settings
def build(settings: Settings) -> Bus:
    return Bus("tiny", settings=settings)
"""
TOLD = """
from tests.unit.test_digest import order
from tests.unit.test_steps import SHOP, shape
print(order(tags=frozenset("abcdefghij")), shape(SHOP))
"""


@cache
def told_with(seed: str) -> list[str]:
    """The digest of a command and the shape of a state, where hashes are of this seed."""
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", TOLD], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_makes_the_same_of_a_set(seed: str) -> None:
    assert told_with(seed)[0] == order(tags=frozenset("abcdefghij"))


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_shape_is_the_same_in_each_process(seed: str) -> None:
    assert told_with(seed)[1] == shape(SHOP)


def test_structlog_is_imported_when_there_is_a_line_to_tell() -> None:
    program = """
import sys
from bus import bus
bus.log.info("quiet")
assert "structlog" not in sys.modules
bus.log.warning("loud")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""
    assert "loud" in ran.stderr
    assert "quiet" not in ran.stderr


def test_the_working_directory_is_importable_as_a_program(tmp_path: Path) -> None:
    (tmp_path / "tiny_app.py").write_text(TINY)
    command = [sys.executable, "-m", "bus", "topology", "tiny_app:build"]
    there, elsewhere = (
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        for folder in (tmp_path, tmp_path.parent)
    )
    assert there.returncode == 0, there.stderr
    assert there.stdout.startswith("tiny.commands")
    assert elsewhere.returncode == 2
    assert f"there is no module 'tiny_app' in {tmp_path.parent}" in elsewhere.stderr
    assert "start the command in the folder that holds it" in elsewhere.stderr


@pytest.mark.parametrize("command", ["worker", "relay"])
def test_what_runs_in_memory_alone_is_told_once(command: str, tmp_path: Path) -> None:
    (tmp_path / "tiny_app.py").write_text(TINY)
    memory = {"BUS_AMQP_URL": "memory://", "BUS_MONGO_URL": "memory://"}
    with subprocess.Popen(
        [sys.executable, "-m", "bus", command, "tiny_app:build"],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, **memory, "PYTHONPATH": os.pathsep.join(["", *filter(None, sys.path)])},
    ) as process:
        assert process.stderr is not None
        lines = [json.loads(process.stderr.readline())]
        if command == "worker":
            lines.append(json.loads(process.stderr.readline()))
        process.send_signal(signal.SIGTERM)
        lines += [json.loads(line) for line in process.communicate(timeout=30)[1].splitlines()]
    told = [line for line in lines if line["event"] == "in_memory"]
    assert len(told) == 1
    assert told[0]["level"] == "warning"
    assert "nobody outside of this process reaches it" in told[0]["reason"]
    assert "set BUS_AMQP_URL and BUS_MONGO_URL" in told[0]["reason"]
