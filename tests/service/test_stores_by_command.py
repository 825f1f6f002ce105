"""`bus stores`: tables that the release before made are brought to this one's version."""

import asyncio

import pytest
from typer.testing import CliRunner, Result

from bus.cli.main import app
from bus.stores.sql.schema import VERSION
from tests.contract.sql_logs import make_as_released

TARGET = "tests.service.desks:build"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["stores", *words])


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch, sql_url: str) -> None:
    """The log's database, as the release before has made it."""
    monkeypatch.setenv("BUS_AMQP_URL", "memory://")
    monkeypatch.setenv("BUS_LOG_URL", sql_url)
    monkeypatch.delenv("BUS_MONGO_URL", raising=False)
    asyncio.run(make_as_released(sql_url))


@pytest.mark.usefixtures("released")
def test_tables_of_the_release_before_are_upgraded_by_the_command_that_is_named() -> None:
    before = run("check", TARGET)
    assert before.exit_code == 1
    assert "`bus stores upgrade " in before.stdout
    assert f"in version {VERSION} (from 1)" in run("upgrade", TARGET).stdout
    assert run("check", TARGET).exit_code == 0
    assert "(they had that already)" in run("upgrade", TARGET).stdout


@pytest.mark.parametrize("database", ["postgresql", "mariadb", "mysql"])
def test_what_an_upgrade_does_is_printed(database: str) -> None:
    printed = run("sql", database, "--since", "1").stdout
    assert "ALTER TABLE bus_states ADD COLUMN found_by" in printed
    assert "CREATE TABLE bus_commits" not in printed
    assert "CREATE TABLE bus_commits" in run("sql", database).stdout
    assert run("sql", database, "--since", str(VERSION)).stdout == ""
    refused = run("sql", database, "--since", str(VERSION + 1))
    assert refused.exit_code == 2
    assert "bus stores check" in refused.stderr
