"""The pages of the reference: every public name is on them, and shown; what they show runs.

That no link is dead is `bin/docs --check`'s to say.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

import bus
import bus.testing
from tools.docs.links import problems_of
from tools.docs.pages import CONFIGURATION, ROOT, pages

REFERENCE = sorted((ROOT / "docs" / "api").glob("*.md"))
FENCED = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^):#]+)(?:#[^)]*)?\)")
MODULES = {"clock": bus.clock, "log": bus.log, "signals": bus.signals}
DIRECTIVE = re.compile(r"(?m)^::: (\S+)$")


def public() -> Iterator[str]:
    """Every public name, as the reference calls it."""
    yield from (f"bus.{name}" for name in bus.__all__ if name not in MODULES)
    yield from (f"bus.testing.{name}" for name in bus.testing.__all__)
    for name, module in MODULES.items():
        yield from (f"bus.{name}.{defined}" for defined in defined_in(str(module.__file__)))


def defined_in(file: str) -> Iterator[str]:
    """The public names that a module defines at its top."""
    for node in ast.parse(Path(file).read_text()).body:
        targets: list[ast.expr] = []
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                targets = [ast.Name(name)]
            case ast.Assign():
                targets = node.targets
            case ast.AnnAssign():
                targets = [node.target]
        names = (one.id for one in targets if isinstance(one, ast.Name))
        yield from (name for name in names if not name.startswith("_"))


@cache
def places() -> dict[str, tuple[Path, str]]:
    """By name: the page, and the section of it, that has it."""
    return {
        name: (page, section)
        for page in REFERENCE
        for section in re.split(r"(?m)^(?=## )", page.read_text())
        for name in DIRECTIVE.findall(section)
    }


def shown(page: Path, section: str) -> str:
    """The code of a section, and of what it links to."""
    code = [*FENCED.findall(section)]
    for link in LINK.findall(section):
        text = (page.parent / link).read_text()
        code += [text] if link.endswith(".py") else CODE.findall(text)
    return "\n".join(code)


def test_the_names_of_a_module_are_found() -> None:
    assert {"bus.clock.now", "bus.log.configure", "bus.log.LogLevel"} <= set(public())


@pytest.mark.parametrize("name", [*public()])
def test_a_public_name_is_in_the_reference_with_what_shows_it(name: str) -> None:
    found = places()
    assert name in found, f"no page of docs/api has a line `::: {name}`"
    page, section = found[name]
    word = name.rpartition(".")[2]
    heading = section.partition("\n")[0]
    assert re.search(rf"\b{word}\b", shown(page, section)), (
        f"{page.name}, {heading!r}: neither an example nor a page that it links to has {word}"
    )


def test_every_page_is_in_the_navigation() -> None:
    def listed(entry: Any) -> Iterator[str]:
        match entry:
            case str():
                yield entry
            case list():
                for one in entry:
                    yield from listed(one)
            case dict():
                yield from listed([*entry.values()])

    navigation = tomllib.loads(CONFIGURATION.read_text())["project"]["nav"]
    there = {path for path, _ in pages() if path.endswith(".md")}
    assert {*listed(navigation)} == there


def test_what_a_built_page_lacks_or_loads_from_elsewhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "index.html").write_text('<a href="..">up</a><a href="gone.yaml">no</a>')
    (tmp_path / "index.html").write_text(
        '<a href="there/#part">a page</a><a href="https://example.org">may lead elsewhere</a>'
        '<img src="gone.png"><script src="//example.org/it.js"></script>'
    )
    assert sorted(problems_of(tmp_path)) == [
        "index.html leads nowhere: gone.png",
        "index.html loads from another host: //example.org/it.js",
        "there/index.html leads nowhere: gone.yaml",
    ]


BEFORE = """
import asyncio

from bus import DeadLetters, Settings, Worker
from reference import app
from reference.app import ROUTERS, build
from reference.messages import PlaceOrder, ShipOrder
from reference.projections import GetOrder


class Refuses:
    async def mail(self, to, text):
        raise ValueError("nobody lives here")


async def run(example):
    async with app.build(Settings.in_memory(), Refuses()) as bus, Worker(bus):
        placed = await bus.execute(PlaceOrder(order_id="o1", customer="ada", lines=()))
        await bus.query(GetOrder(order_id="o1"), after=placed)
        while not await DeadLetters(bus).groups():
            await asyncio.sleep(0.01)
        await example(bus)
"""
EXAMPLE = """

async def {name}(bus):
    {body}


asyncio.run(run({name}))
"""


def test_the_examples_of_the_reference_run(tmp_path: Path) -> None:
    program = BEFORE
    for page in REFERENCE:
        if code := "".join(FENCED.findall(page.read_text())):
            name = f"of_{page.stem.replace('-', '_')}"
            program += EXAMPLE.format(name=name, body=indent(code, "    ").strip())
    (tmp_path / "examples.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "examples.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'docs'}", "BUS_AMQP_URL": "memory://",
             "BUS_MONGO_URL": "memory://"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "nobody lives here" in ran.stdout
