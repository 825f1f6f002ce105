"""What setup.cfg says about versions is true: the lowest of all of them pass the tests."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENT = re.compile(r"([\w.-]+(?:\[\w+\])?) *>=([\w.]+)")


def lowest() -> list[str]:
    """Each library that setup.cfg names, those of its extras too, at the lowest version."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = [line for text in named for line in text.splitlines()]
    found = [REQUIREMENT.match(line.strip()) for line in lines]
    return [f"{match[1]}=={match[2]}" for match in found if match]


def test_every_library_has_a_lowest_version() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    required = config["options"]["install_requires"].split("\n")
    assert len([line for line in required if line.strip()]) == 9
    for line in filter(None, required):
        assert REQUIREMENT.match(line), f"{line} names no lowest version"


@pytest.mark.lowest
@pytest.mark.timeout(3600)  # it installs every library, and runs a third of the suite
def test_the_lowest_versions_pass_unit_and_contract_tests(
    amqp_url: str, mongo_url: str, tmp_path: Path
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "-q", "install"]
    subprocess.run([*pip, *lowest()], check=True)
    # A newer click deprecates what the lowest typer uses: not ours to mend.
    quiet = ["-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider"]
    folders = ["tests/unit", "tests/project", "tests/contract"]
    tests = [str(python), "-m", "pytest", *folders, *quiet, "-n", "2"]
    own = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}
    variables = {
        **own,
        "PYTHONPATH": str(ROOT),
        "BUS_AMQP_URL": amqp_url,
        "BUS_MONGO_URL": mongo_url,
    }
    done = subprocess.run(tests, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
