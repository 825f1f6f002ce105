"""What `bus worker MODULE:NAME` makes of what people write there, and of what they write in it."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bus import Bus, ConfigurationError, Settings
from bus.cli.loading import load

Written = Callable[..., str]

BUILD = """
from bus import Bus, Settings
def build(settings: Settings) -> Bus:
    return Bus("tiny", settings=settings)
"""
INSTANCE = """
from bus import Bus, Settings
bus = Bus("tiny", settings=Settings.in_memory())
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Writes modules into the working directory; returns a prefix that no other test's have."""
    prefix = f"of_{tmp_path.name.replace('-', '_')}_"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(**modules: str) -> str:
        for name, text in modules.items():
            (tmp_path / f"{prefix}{name}.py").write_text(text.replace("PREFIX", prefix))
        return prefix

    return write


def loaded(target: str) -> Bus:
    return load(target, Settings.in_memory)


def refused(target: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        loaded(target)
    return str(raised.value)


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("build", BUILD),
        ("bus", INSTANCE),
        ("build", INSTANCE + "def build(): return bus"),
        ("build", INSTANCE + "def build(*, settings): return Bus('tiny', settings=settings)"),
        ("build", BUILD.replace("settings: Settings)", "settings: Settings, name: str = 'x')")),
        ("build", INSTANCE + "build = lambda settings: Bus('tiny', settings=settings)"),
        ("build", INSTANCE + "from functools import partial\nbuild = partial(Bus, 'tiny')\n"
                             "build = partial(lambda service, settings: bus, 'tiny')"),
        ("Root.build", INSTANCE + "class Root:\n    @staticmethod\n"
                                  "    def build(settings): return bus"),
        ("root", INSTANCE + "class Root:\n    def __call__(self, settings): return bus\n"
                            "root = Root()"),
        ("app.state.bus", INSTANCE + "from fastapi import FastAPI\napp = FastAPI()\n"
                                     "app.state.bus = bus"),
        ("build", INSTANCE + "import asyncio\ndef build(settings):\n"
                             "    asyncio.run(bus.__aenter__())\n    return bus"),
    ],
)  # fmt: skip
async def test_a_bus_and_what_makes_one_is_taken(name: str, text: str, written: Written) -> None:
    def taken() -> Bus:
        return loaded(f"{written(app=text)}app:{name}")

    bus = await asyncio.to_thread(taken)
    assert bus.service == "tiny"
    async with bus:
        assert (await bus.health()).ready


def test_a_factory_that_raises_shows_its_own_lines_and_nothing_of_ours(written: Written) -> None:
    prefix = written(
        app="from bus import Bus\nimport PREFIXdeep as deep\ndef build(settings):\n"
        "    return Bus(deep.name(), settings=settings)\n",
        deep="def name():\n    try:\n        return {}['NAME']\n    except KeyError as error:\n"
        "        raise RuntimeError('no name is configured') from error\n",
    )
    told = refused(f"{prefix}app:build")
    assert told.startswith(f"{prefix}app:build failed:\nTraceback (most recent call last):\n")
    assert told.endswith("RuntimeError: no name is configured")
    assert f'{prefix}app.py", line 4, in build' in told
    assert f'{prefix}deep.py", line 5, in name' in told
    assert "KeyError: 'NAME'" in told
    assert "direct cause" in told
    assert "loading.py" not in told
    assert "importlib" not in told


def test_a_refusal_of_ours_in_a_factory_stays_as_it_is(written: Written) -> None:
    prefix = written(app=BUILD.replace('"tiny"', '"Not A Name"'))
    assert refused(f"{prefix}app:build").startswith("Bus('Not A Name'): the name becomes")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import PREFIX_missing", "ModuleNotFoundError: No module named 'PREFIX_missing'"),
        ("import PREFIXap", "ModuleNotFoundError: No module named 'PREFIXap'"),
        ("import PREFIXapp.models", "No module named 'PREFIXapp.models'"),
        ("from bus import Buss", "ImportError: cannot import name 'Buss' from 'bus'"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def build(settings)\n    pass", "SyntaxError: expected ':'"),
        ("  x = 1", "IndentationError: unexpected indent"),
    ],
)
def test_what_its_own_import_fails_of_is_shown(text: str, told: str, written: Written) -> None:
    """A module whose name begins like that of the missing one is there all the same."""
    prefix = written(app=text)
    shown = refused(f"{prefix}app:build")
    assert shown.startswith(f"{prefix}app cannot be imported:\n")
    assert told.replace("PREFIX", prefix) in shown
    assert f'{prefix}app.py", line 1' in shown
    assert text.replace("PREFIX", prefix).splitlines()[0].strip() in shown
    assert "loading.py" not in shown
    assert "importlib" not in shown


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("{}app.py:build", "is a path; write the module as it is imported: {}app:build"),
        ("./{}app.py:build", "is a path; write the module as it is imported: {}app:build"),
        ("a/{}app:build", "is a path; write the module as it is imported: a.{}app:build"),
        ("a\\{}app.py", "is a path; write the module as it is imported: a.{}app:build"),
        ("{}app", "it names no function; write {}app:build, if that is what it is called"),
        ("a.{}app", "write a.{}app:build, if that is what it is called; or a:{}app, where {}"),
        ("{}app:", "is not an import string; write module:function"),
        (":build", "is not an import string; write module:function"),
        ("{}app:build:x", "is not an import string; write module:function"),
        ("..app:build", "is not an import string; write module:function"),
        ("{}app:build()", "is not an import string; write module:function"),
        ("{}apo:build", "there is no module '{}apo'"),
        ("{}apo:build", "did you mean {}app?"),
        ("{}app.more:build", "there is no module '{}app.more'"),
        ("{}app:biuld", "module '{}app' has no 'biuld'; did you mean build?"),
        ("{}app:state.bsu", "{}app:state has no 'bsu'; did you mean bus?"),
        ("{}app:text", "is a str; it must be a Bus, or a function that takes Settings"),
        ("{}app:wrong", "returned an int; it must take Settings and return a Bus"),
        ("{}app:forgets", "returned None; it must take Settings and return a Bus"),
        ("{}app:later", "is an async function; write it as a plain `def`"),
        ("{}app:awaits", "returned a coroutine; it must take Settings and return a Bus"),
        ("{}app:many", "takes (settings, region, *, shard); it is called with Settings alone"),
        ("{}app:many", "def build_one(settings): return many(settings, ...)"),
        ("{}app:Bus", "it is called with Settings alone"),
    ],
)
def test_a_mistake_in_the_target_is_named_with_a_remedy(
    target: str, told: str, written: Written
) -> None:
    prefix = written(
        app=BUILD
        + """
text = "no bus"
class state:
    bus = 0
def wrong(settings): return 1
def forgets(settings): pass
async def later(settings): return None
awaits = lambda settings: later(settings)
def many(settings, region, *, shard): pass
"""
    )
    assert told.replace("{}", prefix) in refused(target.replace("{}", prefix))


class_with_properties = """
class Root:
    @property
    def broken(self):
        raise {error}
root = Root()
"""


@pytest.mark.parametrize("error", ["ValueError('no bus yet')", "AttributeError('no bus yet')"])
def test_a_property_that_raises_is_shown_with_its_own_lines(error: str, written: Written) -> None:
    prefix = written(app=BUILD + class_with_properties.replace("{error}", error))
    told = refused(f"{prefix}app:root.broken")
    assert told.startswith(f"{prefix}app:root.broken failed:\nTraceback")
    assert told.endswith(f"{error.partition('(')[0]}: no bus yet")
    assert "loading.py" not in told


def test_a_module_after_the_colon_is_told_where_it_belongs(
    written: Written, tmp_path: Path
) -> None:
    prefix = written()
    package = tmp_path / f"{prefix}handlers"
    package.mkdir()
    (package / "app.py").write_text(BUILD)
    for name in ("app.build", "app"):
        told = refused(f"{prefix}handlers:{name}")
        assert f"has no 'app'; did you mean {prefix}handlers.app:build?" in told


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio\ndef build(settings):\n    asyncio.get_running_loop()\n",
        "import asyncio\nasyncio.get_running_loop()\n",
    ],
)
def test_what_needs_a_running_loop_is_told_where_to_make_it(text: str, written: Written) -> None:
    told = refused(f"{written(app=text)}app:build")
    assert "RuntimeError: no running event loop\nEvery command loads the application outs" in told


@pytest.mark.parametrize("is_bare", [True, False])
def test_a_package_found_elsewhere_than_here_is_warned_of(
    is_bare: bool, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    name = f"{written()}handlers"
    for folder in (here, elsewhere):
        (folder / name).mkdir(parents=True)
        if folder == elsewhere or not is_bare:
            (folder / name / "__init__.py").touch()
        (folder / name / "app.py").write_text(BUILD)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(elsewhere), *sys.path, str(here)])
    loaded(f"{name}.app:build")
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {name!r} is {elsewhere / name / '__init__.py'}, not {name} ")
    assert (f"add {name}/__init__.py" if is_bare else f"put {here} first in PYTHONPATH") in told


def test_a_package_found_here_is_not_warned_of(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{written()}handlers"
    (tmp_path / name).mkdir()
    (tmp_path / name / "app.py").write_text(BUILD)
    loaded(f"{name}.app:build")
    assert capsys.readouterr().err == ""


def test_a_module_that_is_hidden_by_one_of_the_same_name_is_told_so(
    tmp_path: Path, written: Written
) -> None:
    written()
    (tmp_path / "bus").mkdir()
    (tmp_path / "bus" / "app.py").write_text(BUILD)
    told = refused("bus.app:build")
    assert "'bus' is" in told
    assert f"give the folder or file bus in {tmp_path} another name" in told
