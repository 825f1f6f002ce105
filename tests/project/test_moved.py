"""Names of the version before, which `names.json` lists, are found, with a warning that says what
they are called now; and what could be called takes what it took."""

import importlib
import inspect
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import bus
from bus import Settings
from bus.cli.main import app
from bus.common.moved import FORMER, PARTED, RENAMED

BEFORE = json.loads((Path(__file__).parents[1] / "versions" / "before" / "names.json").read_text())
OWN = {
    "bus.backend": {"Closing", "backend_of"},
    "bus.delivery.replies": {"Replies"},
    "bus.delivery.retry": {"LONGEST_PAUSE"},
    "bus.cli.tables": {"told"},
    "bus.delivery.history": {"TOLD"},
    "bus.delivery.replaying": {"Telling"},
    "bus.delivery.roster": {"supervise"},
    "bus.delivery.sentinel": {"consumer_check"},
    "bus.delivery.worker": {"PROJECTIONS_SHARE", "Run"},
    "bus.router": {"parameter_types"},
    "bus.stores.applying": {"PATH"},
    "bus.stores.base": {"ReadStore"},
    "bus.stores.memory": {"MemoryReadStore"},
    "bus.stores.mongo": {"MongoReadStore"},
    "bus.stores.mongo.read_store": {"MongoReadStore"},
    "bus.stores.mongo.appender": {"ATTEMPT_WITHIN", "Outcome", "PAUSE"},
    "bus.stores.mongo.client": {"Session", "Stuck"},
    "bus.stores.mongo.effects": {"INDEX_DIFFERS"},
    "bus.stores.mongo.event_log": {"HELD_WITHIN", "PAUSE"},
    "bus.stores.mongo.failures": {"NO_REPLICA_SET"},
    "bus.stores.mongo.grouping": {"tell", "tell_error"},
    "bus.stores.mongo.loader": {"COMMITS_AT_A_TIME", "COMMITS_AT_ONCE", "Loader"},
    "bus.stores.mongo.transactions": {"Conflict"},
    "bus.stores.updates": {"visible"},
    "bus.testing.chaos": {"Answer", "PAUSE"},
    "bus.testing.plugin": {
        *("SEED", "chaos", "frozen_time", "memory_settings", "unique_service"),
        *("pytest_addoption", "pytest_runtest_makereport"),
    },
    "bus.testing.broken": {"BrokenReadStore"},
    "bus.testing.read_store_contract": {"ReadStoreContract"},
    "bus.testing.rest": {"unrest"},
    "bus.transports.memory": {"MemoryInbox"},
    "bus.transports.rabbitmq.connection": {"Session"},
    "bus.transports.rabbitmq.declare": {"declare_exchanges"},
    "bus.transports.rabbitmq.publisher": {"Publisher"},
    "bus.transports.replies": {"Replies"},
    "bus.write.aggregate": {"check_id"},
}
"""What no service had a use for: what the bus's own modules told one another, drivers' words, and
fixtures, which pytest finds by their names."""
OWN_CALLS = {
    "bus.Repository.seen",
    "bus.testing.FastTime.bits",
    "bus.testing.HeldTime.bits",
    "bus.testing.World",
}
"""What the bus itself called, or made."""


@pytest.mark.parametrize("former", sorted(FORMER))
def test_a_module_is_found_by_its_former_name(former: str) -> None:
    with pytest.warns(DeprecationWarning, match=re.escape(f"{former} is {FORMER[former][0]}")):
        found = importlib.import_module(former)
    try:
        now = [importlib.import_module(name) for name in FORMER[former]]
        if former.removeprefix("bus.") in PARTED:
            for module in now:
                public = {k: v for k, v in vars(module).items() if not k.startswith("_")}
                assert public.items() <= vars(found).items()
        else:
            assert found is now[0]
    finally:
        sys.modules.pop(former, None)


def test_a_program_that_names_modules_as_they_were_called_runs() -> None:
    program = (
        "from bus import ambient, log\n"
        "from bus.log import configure_default\n"
        "from bus.stores.base import Index, Recorded\n"
        "from bus.middleware import timeout\n"
        "from bus.testing.transport_contract import TransportContract\n"
        "import bus.delivery.keeper as keeper\n"
        "import bus, bus.common.clock\n"
        "assert ambient is bus.common.clock and log is bus.log\n"
        "assert bus.Index is Index and keeper.Keeper\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_a_former_module_hides_no_public_name() -> None:
    program = (
        "from bus.testing.chaos import World\n"
        "from bus.testing import chaos\n"
        "import bus.testing\n"
        "assert callable(chaos) and chaos is bus.testing.chaos and World is bus.testing.World\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_what_there_never_was_is_not_found() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("bus.nowhere")
    assert not hasattr(bus, "nowhere")


@pytest.mark.parametrize(("former", "name"), sorted(RENAMED["bus"].items()))
def test_a_public_name_is_found_by_its_former_one(former: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=re.escape(f"bus.{former} is bus.{name} now")):
        assert getattr(bus, former) is getattr(bus, name)


@pytest.mark.parametrize("former", BEFORE["modules"])
def test_what_could_be_imported_still_can(former: str) -> None:
    names = set(BEFORE["modules"][former]) - {"log"}  # a module's logger is its own
    names |= {"log"} if former == "bus" else set()
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            module = importlib.import_module(former)
            missing = {name for name in names if not hasattr(module, name)}
    finally:
        if former in FORMER:
            sys.modules.pop(former, None)
    assert missing == OWN.get(former, set())
    for one in told:
        assert re.match(r"bus[\w.]+ is bus\.[\w.]+( and bus\.[\w.]+)* now; ", str(one.message))
    assert (former in FORMER) == any(str(one.message).startswith(f"{former} is ") for one in told)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("former", sorted(BEFORE["calls"].keys() - OWN_CALLS))
def test_what_could_be_called_takes_what_it_took(former: str) -> None:
    room = "bus.testing" if former.startswith("bus.testing.") else "bus"
    found: Any = importlib.import_module(room)
    for name in former.removeprefix(f"{room}.").split("."):
        found = getattr(found, name)
    taken = BEFORE["calls"][former]
    if taken is not None:
        now = parameters(found)
        assert not [one for one in taken if one not in now and f"{one}=" not in now]
        assert not [one for one in now if one not in taken and one[0] != "*" and one[-1] != "="]


def parameters(function: Callable[..., Any]) -> list[str]:
    """As `names.json` has them: "only" by keyword, and "=" for those that have a default."""
    signs: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    return [
        ("only " if one.kind is one.KEYWORD_ONLY else "")
        + signs.get(one.kind, "")
        + one.name
        + ("" if one.default is one.empty else "=")
        for one in inspect.signature(function).parameters.values()
        if not one.name.startswith("_")
    ]


WITHOUT_A_VERB = {"topology": "topology show"}
"""Commands that have verbs now, and which of these is meant where none is given."""


def test_commands_take_what_they_took() -> None:
    def commands(command: Any, *named: str) -> dict[str, set[str]]:
        if not hasattr(command, "commands"):
            options = [[one.name, *one.opts, *one.secondary_opts] for one in command.params]
            return {" ".join(named): {name for names in options for name in names}}
        found = (commands(one, *named, name) for name, one in command.commands.items())
        return {name: options for one in found for name, options in one.items()}

    now = commands(typer.main.get_command(app))
    for command, options in BEFORE["commands"].items():
        assert set(options) <= now[WITHOUT_A_VERB.get(command, command)], command


def test_settings_are_named_as_they_were() -> None:
    assert set(BEFORE["settings"]) <= set(Settings.model_fields)
