"""`bus topology`: its verbs, its former form, and what a plan takes from the code."""

import asyncio
import math
import threading
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bus import Bus, Command, Event, Router, Settings
from bus.cli.main import app
from bus.operate.topology.prune import Pruned, Pruning
from bus.recovery.losses import time_limits
from bus.transports.rabbitmq.planning.change import PRUNE, Change

SERVICE = """
from bus import Bus, Settings

def build(settings: Settings) -> Bus:
    return Bus("tiny", settings=settings)
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"planned_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SERVICE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUS_AMQP_URL", "memory://")
    monkeypatch.setenv("BUS_MONGO_URL", "memory://")
    return f"{name}:build"


@pytest.mark.parametrize("words", ["", "--json", "--declare"])
def test_the_former_form_prints_what_show_prints_and_says_so(words: str, service: str) -> None:
    former = CliRunner().invoke(app, ["topology", service, *words.split()])
    now = CliRunner().invoke(app, ["topology", "show", service, *words.split()])
    assert (former.exit_code, former.stdout) == (0, now.stdout)
    assert former.stderr == f"`bus topology {service}` is `bus topology show` now\n"
    assert now.stderr == ""


def test_its_verbs_are_listed() -> None:
    shown = CliRunner().invoke(app, ["topology", "--help"])
    assert shown.exit_code == 0
    assert {"show", "plan", "check"} <= {*shown.stdout.split()}


@pytest.mark.parametrize("verb", ["plan", "check"])
def test_what_is_in_memory_cannot_be_compared_with_rabbitmq(verb: str, service: str) -> None:
    result = CliRunner().invoke(app, ["topology", verb, service])
    assert result.exit_code == 2
    assert "this one is in memory: set BUS_AMQP_URL to the broker's URL" in result.stderr


ORPHAN = Change(PRUNE, "queue", "tiny.former", "nobody declares it", "prune it")


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """One queue is prunable; what is pruned comes here."""
    taken: list[Change] = []

    async def prunable(self: Pruning, *, definitions: Path | None = None) -> list[Change]:
        return [ORPHAN]

    async def prune(self: Pruning, changes: list[Change], *, with_messages: bool) -> Pruned:
        taken.extend(changes)
        return Pruned(tuple(changes), ())

    monkeypatch.setattr(Pruning, "prunable", prunable)
    monkeypatch.setattr(Pruning, "prune", prune)
    return taken


@pytest.mark.parametrize(
    ("words", "typed", "status"),
    [("", "tiny\n", 0), ("--yes tiny", "", 0), ("", "tidy\n", 2), ("", "", 2)],
)
def test_prune_asks_for_the_services_name_and_without_it_removes_nothing_which_is_status_2(
    words: str, typed: str, status: int, service: str, pruned: list[Change]
) -> None:
    line = ["topology", "prune", service, *words.split()]
    result = CliRunner().invoke(app, line, input=typed)
    assert result.exit_code == status
    assert pruned == [ORPHAN] * (status == 0)
    assert ("nothing was removed" in result.stderr) == (status == 2)


def test_prune_asks_in_the_thread_that_ctrl_c_comes_to_while_no_loop_waits(
    service: str, pruned: list[Change], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(text: str, **more: object) -> str:
        assert threading.current_thread() is threading.main_thread()
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        raise typer.Abort

    monkeypatch.setattr(typer, "prompt", interrupted)
    result = CliRunner().invoke(app, ["topology", "prune", service])
    assert (result.exit_code, pruned) == (2, [])


class Post(Command):
    pass


class Posted(Event):
    pass


def test_the_time_limit_of_a_queue_is_the_longest_of_those_who_handle_its_messages() -> None:
    slow, quick, mail = (
        Router("slow", time_limit=900),
        Router("quick"),
        Router("mail", time_limit=7),
    )
    endless = Router("endless", time_limit=None)

    @slow.command
    async def post(command: Post) -> None: ...

    @mail.event
    async def send(event: Posted) -> None: ...

    @endless.event
    async def wait(event: Posted) -> None: ...

    bus = Bus("office", routers=[slow, quick, mail, endless], settings=Settings.in_memory())
    assert time_limits(bus.runtime) == {
        "office.commands": 900.0,
        "office.mail": 7.0,
        "office.endless": math.inf,
    }
