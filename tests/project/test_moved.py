"""Modules by their former names: the same modules, with a warning that names where they are now."""

import importlib
import re
import subprocess
import sys

import pytest

import bus
from bus.common.moved import FORMER, PARTED, RENAMED


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


def test_what_there_never_was_is_not_found() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("bus.nowhere")
    assert not hasattr(bus, "nowhere")


@pytest.mark.parametrize(("former", "name"), sorted(RENAMED["bus"].items()))
def test_a_public_name_is_found_by_its_former_one(former: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=re.escape(f"bus.{former} is bus.{name} now")):
        assert getattr(bus, former) is getattr(bus, name)
