import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bus.cli.main import app
from bus.version import __version__
from tests.scraping import asked
from tools.services.ports import free_ports, wait_until

SERVICE = """
from bus import Bus, Settings
def build(settings: Settings) -> Bus:
    return Bus("tiny", settings=settings)
def wrong(settings: Settings) -> str:
    return "no bus"
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"service_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SERVICE)
    monkeypatch.chdir(tmp_path)
    return name


def test_the_topology_is_printed_for_people_and_as_json(service: str) -> None:
    shown = CliRunner().invoke(app, ["topology", f"{service}:build"])
    assert shown.stdout == "tiny.commands\n    tiny.commands: command\ntiny.history.requests\n"
    as_json = CliRunner().invoke(app, ["topology", f"{service}:build", "--json"])
    assert json.loads(as_json.stdout)["queues"][0]["name"] == "tiny.commands"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("{}", "it names no function; write {}:build"),
        ("nowhere_at_all:build", "there is no module 'nowhere_at_all'"),
        ("{}:missing", "has no 'missing'"),
        ("{}:wrong", "returned a str; it must take Settings and return a Bus"),
    ],
)
def test_a_wrong_target_is_a_clear_error(service: str, target: str, told: str) -> None:
    result = CliRunner().invoke(app, ["topology", target.format(service)])
    assert result.exit_code == 2
    assert told.format(service) in result.stderr


def test_a_worker_without_settings_says_what_is_missing(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUS_AMQP_URL", raising=False)
    monkeypatch.delenv("BUS_MONGO_URL", raising=False)
    result = CliRunner().invoke(app, ["worker", f"{service}:build"])
    assert result.exit_code == 2
    assert "BUS_AMQP_URL: is not set" in result.stderr
    assert "BUS_MONGO_URL: is not set" in result.stderr


@pytest.mark.parametrize("command", ["worker", "relay"])
def test_a_log_level_that_there_is_not_is_told_as_settings_are(
    command: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory(monkeypatch, BUS_LOG_LEVEL="verbose", BUS_BATCH="0")
    result = CliRunner().invoke(app, [command, f"{service}:build"])
    assert result.exit_code == 2
    assert "BUS_LOG_LEVEL=verbose: must be 'DEBUG', 'INFO'" in result.stderr
    assert "BUS_BATCH=0" in result.stderr


def test_checking_a_worker_without_a_port_names_the_remedy(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory(monkeypatch)
    result = CliRunner().invoke(app, ["worker", f"{service}:build", "--check"])
    assert result.exit_code == 2
    assert "set BUS_HEALTH_PORT to a free port" in result.stderr


def test_a_worker_that_does_not_run_is_not_ready(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    in_memory(monkeypatch, BUS_HEALTH_PORT=str(port))
    result = CliRunner().invoke(app, ["worker", f"{service}:build", "--check"])
    assert result.exit_code == 1
    assert result.stdout.startswith(f"not ready\n  worker: no answer at 127.0.0.1:{port}")
    as_json = CliRunner().invoke(app, ["worker", f"{service}:build", "--check", "--json"])
    assert as_json.exit_code == 1
    report = json.loads(as_json.stdout)
    assert (report["alive"], report["ready"]) == (False, False)
    assert report["problems"][0]["part"] == "worker"


def test_a_worker_is_asked_where_the_application_lets_it_answer(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    for name in ("BUS_AMQP_URL", "BUS_MONGO_URL", "BUS_HEALTH_PORT"):
        monkeypatch.delenv(name, raising=False)
    given = f"settings=Settings.in_memory(health_port={port})"
    (tmp_path / f"{service}_coded.py").write_text(SERVICE.replace("settings=settings", given))
    result = CliRunner().invoke(app, ["worker", f"{service}_coded:build", "--check"])
    assert result.exit_code == 1
    assert f"no answer at 127.0.0.1:{port}" in result.stdout


@pytest.mark.real_time
def test_a_relay_measures_what_no_worker_does(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    in_memory(monkeypatch, BUS_HEALTH_PORT=str(port), BUS_FACTS_EVERY="0.2")
    command = [sys.executable, "-m", "bus", "relay", f"{service}:build"]
    relay = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def measures() -> bool:
        with suppress(OSError):
            return b"bus_facts_age_seconds{" in asked(port)[1]
        return False

    try:
        assert wait_until(measures, seconds=60)
    finally:
        relay.kill()
        relay.wait()


AT_ITS_TOP = """
import asyncio
async def region():
    return "tiny"
NAME = asyncio.run(region())
"""
IN_BUILD = SERVICE.replace("    return Bus", "    asyncio.run(region())\n    return Bus")


@pytest.mark.parametrize("text", [AT_ITS_TOP + SERVICE, AT_ITS_TOP + IN_BUILD])
@pytest.mark.parametrize(
    "command",
    ["topology", "worker --only missing", "events unknown", "projections status",
     "deadletters list", "contracts export", "worker --check", "topology --declare"],
)  # fmt: skip
def test_an_application_may_run_a_loop_of_its_own_in_every_command(
    text: str, command: str, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory(monkeypatch)
    (tmp_path / f"{service}_running.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, f"{service}_running", raising=False)
    first, *words = command.split()
    at = 1 if first in {"events", "projections", "deadletters", "contracts"} else 0
    words.insert(at, f"{service}_running:build")
    result = CliRunner().invoke(app, [first, *words])
    assert "asyncio.run" not in result.output
    if "--only" in words:
        assert "missing" in result.stderr  # it got as far as the worker
    elif "--check" in words:
        assert "set BUS_HEALTH_PORT" in result.stderr
    else:
        assert result.exit_code == 0, result.output


def in_memory(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    urls = {"BUS_AMQP_URL": "memory://", "BUS_MONGO_URL": "memory://"}
    for name, value in {**urls, **variables}.items():
        monkeypatch.setenv(name, value)


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["version"]).stdout == f"{__version__}\n"
    as_option = CliRunner().invoke(app, ["--version"])
    assert (as_option.exit_code, as_option.stdout) == (0, f"{__version__}\n")
    assert json.loads(CliRunner().invoke(app, ["version", "--json"]).stdout) == {
        "version": __version__
    }
