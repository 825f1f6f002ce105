"""Without the extras for telemetry all works, and nothing of them is imported unasked."""

import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORK = """
import asyncio
from bus import Bus, Command, Router, Settings, Worker

class Move(Command):
    pass

moves = Router("moves")
done = []

@moves.command
async def move(command: Move) -> None:
    done.append(command)

async def main() -> None:
    bus = Bus("bank", routers=[moves], settings=Settings.in_memory())
    async with bus, Worker(bus):
        for _ in range(10):
            await bus.execute(Move())
        await bus.request(Move())

asyncio.run(main())
assert len(done) == 11
"""

REFUSING = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("opentelemetry", "prometheus_client"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
"""

SEEN = """
import sys
known = {name for name in sys.modules if name.startswith(("opentelemetry", "prometheus_client"))}
"""


def run(code: str) -> None:
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_bus_works_where_they_are_not_installed() -> None:
    run(REFUSING + WORK)


def test_a_bus_imports_nothing_of_them() -> None:
    run(WORK + SEEN + "assert not known, known")


def test_the_command_imports_nothing_of_them() -> None:
    run("import bus.cli.main\n" + SEEN + "assert not known, known")


def test_the_api_alone_as_a_web_framework_imports_it_changes_nothing() -> None:
    pytest.importorskip("opentelemetry.trace")
    unused = """
        assert "bus.telemetry.tracing" not in sys.modules
        assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules)
        assert "prometheus_client" not in sys.modules
    """
    lines = "\n".join(line.strip() for line in unused.splitlines())
    run("import sys, opentelemetry.trace, opentelemetry.metrics\n" + WORK + lines)


def test_the_entry_point_of_automatic_instrumentation_is_there() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    name, _, place = (
        config["options.entry_points"]["opentelemetry_instrumentor"].strip().partition(" = ")
    )
    module, _, kind = place.partition(":")
    instrumentor = getattr(import_module(module), kind)()
    assert name == "doubledecker"
    assert instrumentor.instrumentation_dependencies() == ()


@pytest.mark.parametrize("client", ["aio_pika", "motor", "sqlalchemy", "aiokafka", "opensearchpy"])
def test_no_client_of_a_server_is_imported_before_one_is_used(client: str) -> None:
    """Each takes a service in memory, or one that has no such server, time and memory."""
    code = f"import sys, bus\nassert {client!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
