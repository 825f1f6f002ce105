"""What the documents say of the code is so."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.installed import installed

ROOT = Path(__file__).parents[2]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()


def named_tests() -> list[tuple[str, str]]:
    return re.findall(r"`(\w+\.py)::(\w+)`", GUARANTEES)


def test_a_test_that_proves_a_guarantee_exists() -> None:
    folders = (ROOT / "tests", ROOT / "bus" / "testing")
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    paths = [path for path in paths if "before" not in path.parts]
    words = {path.name: {*re.findall(r"\w+", path.read_text())} for path in paths}
    missing = [f"{file}::{name}" for file, name in named_tests() if name not in words.get(file, ())]
    assert not missing
    count = Counter(path.name for path in paths)
    assert [file for file, _ in named_tests() if count[file] > 1] == []


def test_every_guarantee_names_a_test() -> None:
    rows = [line for line in GUARANTEES.splitlines() if re.match(r"\| G\d+ \|", line)]
    assert len(rows) == 17
    assert all("::test_" in row or "::Test" in row for row in rows)


def write_files(page: str, folder: Path) -> int:
    """Writes the files that a page shows; returns how many."""
    text = (ROOT / "docs" / page).read_text()
    files = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL)
    for name, content in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return len(files)


def run_by_pytest(folder: Path) -> str:
    """Runs the tests in a folder against the package alone; returns what pytest printed."""
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{installed(folder)}:{folder}"},
        capture_output=True,
        text=True,
    )
    return shown.stdout


def test_the_tests_on_the_page_of_testing_pass(tmp_path: Path) -> None:
    write_files("a-service-of-your-own.md", tmp_path)
    assert write_files("testing.md", tmp_path) == 7
    assert "17 passed" in run_by_pytest(tmp_path)


def test_the_tests_on_the_page_of_states_pass(tmp_path: Path) -> None:
    assert write_files("states.md", tmp_path) == 2
    assert "2 passed" in run_by_pytest(tmp_path)


def test_the_examples_on_the_page_of_stores_run(
    tmp_path: Path, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_files("stores.md", tmp_path) == 6
    for name, url in (("AMQP_URL", "memory://"), ("MONGO_URL", ""), ("LOG_URL", sql_url)):
        monkeypatch.setenv(f"BUS_{name}", url)
    shown = run_by_pytest(tmp_path)
    assert "2 passed" in shown, shown


def test_the_service_from_nothing_is_built_by_what_the_page_says(tmp_path: Path) -> None:
    assert write_files("a-service-of-your-own.md", tmp_path) == 5
    alone = installed(tmp_path)
    shown = subprocess.run(
        [sys.executable, "-m", "bus", "topology", "show", "handlers.app:build"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(alone)},
        capture_output=True,
        text=True,
    )
    assert "bank.balances\n    bank.events: account.#" in shown.stdout, shown.stderr
    assert shown.stderr == ""


IN_THE_WEB = """
from fastapi.testclient import TestClient
from main import app, bus

with TestClient(app) as client:
    assert client.post("/accounts/a1", params={"owner": "Ada"}).status_code == 200
    print(bus.service)
"""


def test_what_the_page_builds_runs_in_memory_alone_and_in_a_web_application(
    tmp_path: Path,
) -> None:
    write_files("a-service-of-your-own.md", tmp_path)
    (tmp_path / "use_it.py").write_text(IN_THE_WEB)
    memory = {"BUS_AMQP_URL": "memory://", "BUS_MONGO_URL": "memory://"}
    alone = str(installed(tmp_path))
    for program, told in (("try_it.py", "owner='Ada' balance=0\n"), ("use_it.py", "bank\n")):
        shown = subprocess.run(
            [sys.executable, program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": alone, **memory},
            capture_output=True,
            text=True,
        )
        assert shown.stdout == told, shown.stderr


def test_a_folder_named_as_a_package_elsewhere_is_warned_of(tmp_path: Path) -> None:
    write_files("a-service-of-your-own.md", tmp_path)
    shown = subprocess.run(
        [sys.executable, "-m", "bus", "topology", "show", "handlers.app:build"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f"warning: 'handlers' is {ROOT / 'handlers' / '__init__.py'}" in shown.stderr


def test_the_compensation_on_the_page_of_dead_letters_works(tmp_path: Path) -> None:
    assert write_files("dead-letters.md", tmp_path) == 2
    assert "1 passed" in run_by_pytest(tmp_path)


OLDER_SHOP = """
from bus import Aggregate, Bus, Event, Projection, Settings
from shop import OrderView

class Placed(Event):
    order_id: str
    euros: int

class Order(Aggregate, events=[Placed]):
    pass

def build(settings: Settings) -> Bus:
    return Bus("shop", projections=[Projection("orders", of=[Order], view=OrderView)],
               settings=settings)
"""


def test_the_shop_on_the_page_of_evolution_reads_what_it_says(tmp_path: Path) -> None:
    assert write_files("evolution.md", tmp_path) == 2
    (tmp_path / "older_shop.py").write_text(OLDER_SHOP)
    environment = {**os.environ, "PYTHONPATH": f"{installed(tmp_path)}:{tmp_path}"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    tested = run("pytest", "-q", "-p", "no:asyncio")
    assert "1 passed" in tested.stdout, tested.stdout
    run("bus", "contracts", "export", "older_shop:build", "contracts.json")
    checked = run("bus", "contracts", "check", "shop:build", "contracts.json")
    assert checked.returncode == 1, checked.stderr
    assert "compatible: event Placed, stored events: is OrderPlaced now" in checked.stdout
    assert "breaking: event Placed, subscribers: leaves as OrderPlaced" in checked.stdout
    shown = (ROOT / "docs" / "evolution.md").read_text()
    told = "subscribers: euros: is required, and is missing"
    assert told in checked.stdout
    assert told in shown
