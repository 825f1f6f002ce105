"""The pytest plugin: what its fixtures give, and that they leave nothing behind."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bus import ConfigurationError, Settings
from bus.common import clock
from bus.testing import HeldTime, ambient_source
from bus.testing.plugin import Chaos
from bus.testing.real import RealSettings
from tests.installed import installed
from tests.service.wallet import GetWallet, Pay, WalletView, build

FAILING = """
import asyncio
from bus import Bus

def build(settings):
    return Bus("wallets", settings=settings)

def test_that_fails(chaos):
    async def run():
        async with chaos(build) as world:
            assert str(world) == ""
    asyncio.run(run())

def test_without_chaos():
    assert False
"""

LAZY = """
import sys

def imported():
    return [one for one in sys.modules if one == "bus" or one.startswith("bus.")]

def test_that_uses_none(request):
    assert request.config.pluginmanager.has_plugin("pytest_doubledecker")
    assert not imported()

def test_that_uses_a_name(unique_service):
    assert not imported()

def test_that_uses_settings(memory_settings):
    assert imported()
"""


def test_frozen_time_stands_still_until_it_is_moved(frozen_time: HeldTime) -> None:
    before = clock.now()
    ids = [clock.new_id(), clock.new_id()]
    assert ids[0] != ids[1]
    assert clock.now() == before
    frozen_time.advance(-3600)
    assert (before - clock.now()).total_seconds() == 3600


def test_held_ids_and_chance_follow_from_the_seed() -> None:
    def drawn(seed: int) -> tuple[str, float]:
        with ambient_source(HeldTime(seed)):
            return clock.new_id(), clock.jittered(1)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_time_runs_again_after_the_test_that_held_it() -> None:
    assert abs(clock.now().timestamp() - time.time()) < 60


async def test_the_chaos_fixture_begins_with_a_seed(chaos: Chaos) -> None:
    async with chaos(build) as world:
        await world.execute(Pay(wallet_id="a", amount=3))
        await world.settle()
        assert await world.query(GetWallet(wallet_id="a")) == WalletView(id="a", total=3)


def test_names_and_settings(memory_settings: Settings, unique_service: str) -> None:
    assert build(memory_settings, service=unique_service).service == unique_service


def run_pytest(folder: Path, *words: str, **variables: str) -> str:
    """What pytest says of the tests in a folder, where Doubledecker is installed and nothing else
    is: no plugin for asyncio, and no configuration."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("BUS_")}
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:asyncio", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(installed(folder)), **variables},
        capture_output=True,
        text=True,
    )
    return shown.stdout + shown.stderr


def test_a_failure_names_its_seed_and_nothing_else_is_needed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILING)
    shown = run_pytest(tmp_path, "--chaos-seed=77")
    assert "2 failed" in shown
    assert shown.count("repeat this with --chaos-seed=77") == 1


def test_nothing_is_imported_before_a_fixture_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LAZY)
    assert "3 passed" in run_pytest(tmp_path)


@pytest.mark.parametrize("named", ["conftest.py", "arguments", "without entry points"])
def test_the_plugin_is_loaded_once_by_whatever_name(tmp_path: Path, named: str) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(bus_settings, unique_service): pass")
    words, variables = [], {}
    if named == "conftest.py":
        (tmp_path / "conftest.py").write_text('pytest_plugins = ["bus.testing.plugin"]')
    else:
        words = ["-p", "bus.testing.plugin"]
    if named == "without entry points":
        variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        words += ["-p", "no:asyncio"]
    assert "1 passed" in run_pytest(tmp_path, *words, **variables)


def test_real_services_are_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(bus_settings): pass")
    shown = run_pytest(tmp_path, "--bus-services=real", BUS_AMQP_URL="amqp://localhost/")
    assert "ERROR: --bus-services=real: BUS_MONGO_URL not set; say where" in shown


def test_real_services_are_to_be_there(tmp_path: Path) -> None:
    """Each test says so, and the first of them alone waits."""
    (tmp_path / "test_it.py").write_text(
        "def test_it(bus_settings): pass\ndef test_again(bus_settings): pass"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        shown = run_pytest(
            tmp_path,
            "--bus-services=real",
            BUS_AMQP_URL=f"amqp://guest:secret@127.0.0.1:{port}/",
            BUS_MONGO_URL=f"mongodb://127.0.0.1:{port}/",
        )
    assert "2 errors" in shown
    assert f"tests on real services: RabbitMQ at 127.0.0.1:{port}: " in shown
    assert "secret" not in shown


def test_a_service_goes_by_a_name_of_the_tests_own() -> None:
    settings = RealSettings.of("amqp://h/", "mongodb://h/", "t1")
    assert settings.named("orders") == "t1_orders"
    assert settings.named("t1_orders") == "t1_orders"
    with pytest.raises(ConfigurationError, match="50 characters at most; shorten it by 1"):
        settings.named("o" * 48)


LASTING = """
import asyncio

import pytest

from bus import Bus

@pytest.fixture(scope="session")
def of_the_run(bus_settings_factory):
    return bus_settings_factory()

@pytest.fixture(scope="module")
def bus(bus_settings_factory):
    return Bus("wallets", settings=bus_settings_factory())

def test_they_live_longer_than_a_test(of_the_run, bus):
    bus.seen = of_the_run

def test_and_are_the_same_in_the_next(of_the_run, bus, bus_settings, bus_settings_factory):
    assert bus.seen is of_the_run
    made = [of_the_run, bus_settings, bus_settings_factory()]
    assert len({id(one) for one in made}) == 3
    assert len({type(one) for one in made}) == 1
"""


def test_a_fixture_may_live_longer_than_a_test(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LASTING)
    assert "2 passed" in run_pytest(tmp_path)
