"""The README's service, copied into an empty folder, runs against the installed wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bus import Settings
from tools.releases.roots import LEFT_OUT

ROOT = Path(__file__).parents[2]


def service() -> str:
    """The first Python block of the README."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel, and nothing else, is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = folder.glob("doubledecker-*.whl")
    target = folder / "installed"
    install = [*pip, "install", "--no-deps", "--target", str(target), str(built)]
    subprocess.run(install, check=True, capture_output=True)
    return target


def run(folder: Path, installed: Path, *command: str, **environment: str) -> str:
    """Runs Python in `folder` with only the wheel (and the libraries) to import from."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_bus_is_installed_typed_and_with_the_console_script(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"__pycache__"} == {"bus", "bin", "pytest_doubledecker.py"}
    assert (installed / "bus" / "py.typed").exists()
    assert (installed / "bin" / "bus").exists()


def test_the_readmes_service_runs_against_the_wheel_beside_handlers_of_its_own(
    installed: Path, tmp_path: Path, real_settings: Settings
) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "bank.py").write_text(
        "import bus, handlers\n"
        f"assert bus.__file__.startswith({str(installed)!r}), bus.__file__\n"
        "assert handlers.MINE\n" + service()
    )
    environment = {
        "BUS_AMQP_URL": real_settings.amqp_url,
        "BUS_MONGO_URL": real_settings.mongo_url,
        "BUS_MONGO_DB": real_settings.mongo_db,
    }
    for _ in range(2):
        assert run(tmp_path, installed, "bank.py", **environment) == "owner='Ada' balance=0\n"


def test_the_readmes_service_runs_in_memory_as_it_says(installed: Path, tmp_path: Path) -> None:
    in_memory = service().replace("build(Settings())", "build(Settings.in_memory())")
    (tmp_path / "bank.py").write_text(in_memory)
    assert run(tmp_path, installed, "bank.py") == "owner='Ada' balance=0\n"


def test_its_topology_can_be_printed_without_a_broker(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(service())
    printed = run(tmp_path, installed, "-m", "bus", "topology", "show", "bank:build")
    assert printed == (
        "bank.commands\n    bank.commands: command\n"
        "bank.balances\n    bank.events: account.#\n"
        "bank.history.requests\n"
    )


def test_the_service_is_short() -> None:
    lines = [line for line in service().splitlines() if line.strip()]
    assert len(lines) <= 40
