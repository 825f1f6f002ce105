"""`--on RELEASE` refuses clearly what it cannot do, and leaves nothing running."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.releases import roots
from tools.releases.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def test_a_release_that_is_not_known_is_refused_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bin/test", "debian99", "tests/unit"]) == 2
    assert "bin/test --on debian99: give one of debian12, debian13" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["bin/test", "bin/demo"])
def test_no_release_at_all_is_refused_too(program: str) -> None:
    done = subprocess.run([ROOT / program, "--on"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"{program} --on : give one of debian12, debian13" in done.stderr


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["bin/test", "debian13"]) == 2
    assert "run it as root" in capsys.readouterr().err


def test_roots_are_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOUBLEDECKER_ROOTS", str(tmp_path))
    assert roots.folder_of(roots.RELEASES["debian13"]) == tmp_path / "trixie"


def test_a_copy_of_the_checkout_keeps_the_roots_own_environment(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "own").touch()
    (tmp_path / "bus").mkdir()
    (tmp_path / "bus" / "deleted_since.py").touch()
    roots.copy_checkout(tmp_path)
    assert (tmp_path / ".venv" / "own").exists()
    assert not (tmp_path / "bus" / "deleted_since.py").exists()
    copied, source = tmp_path / "setup.cfg", ROOT / "setup.cfg"
    assert copied.read_text() == source.read_text()
    # Otherwise each run would set the environment up anew.
    assert copied.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert {path.name for path in tmp_path.iterdir()}.isdisjoint({".git", ".services"})


def test_a_command_in_a_root_knows_the_machines_registries_and_nothing_else_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://localhost/simple")
    monkeypatch.setenv("BUS_AMQP_URL", "amqp://localhost")
    monkeypatch.setenv("DOUBLEDECKER_PYTHON", sys.executable)
    told = roots.environment(tmp_path)
    assert told["PIP_INDEX_URL"] == "http://localhost/simple"
    assert not [name for name in told if name.startswith(("BUS_", "DOUBLEDECKER_"))]
