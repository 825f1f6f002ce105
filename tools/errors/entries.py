"""What provokes an error: a function of a few lines, or a command line."""

import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
import unittest.mock
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.testing import CliRunner

from bus import BusError, Documents, Settings
from bus.cli.main import app
from bus.testing import given_documents
from tools.errors import bank
from tools.errors.servers import Serves

WIDTH = 96
KEPT = {name: value for name, value in os.environ.items() if not name.startswith("BUS_")}
"""Of the environment as it is before an entry sets any of it, while another one begins."""
ENDED = "\nexit status: "
"""What stands before the status of a command, below its words."""


class Entry(NamedTuple):
    """What the page shows, and the words that come of it."""

    title: str
    code: str
    language: str
    means: str
    """The error that it is about: its class, and words of it. Another one is a mistake here."""
    run: Callable[[], str]
    waits: bool = False
    """Whether it takes seconds, in which others can be provoked."""

    def provoke(self) -> str:
        """The words. Raises: AssertionError for those of another error than is meant."""
        came = self.run()
        kind, _, words = self.means.partition(": ")
        if not came.startswith(f"{kind}: ") or words not in came:
            raise AssertionError(f"{self.title}: {self.means!r} is meant, and this came: {came}")
        return came


class Section:
    """A heading of the page, with its entries. As a decorator, it takes a function in, and says
    which error is meant."""

    def __init__(self, title: str, introduction: str = "") -> None:
        self.title = title
        self.introduction = introduction
        self.entries: list[Entry] = []

    def __call__(self, means: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A function whose last step raises. It may take `bus`: the bank's, opened in memory."""

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            title = function.__doc__ or function.__name__.replace("_", " ").capitalize()
            body, run = _body_of(function), partial(_raised, function)
            self.entries.append(Entry(title, body, "python", means, run))
            return function

        return add

    def command(self, title: str, means: str, line: str, **environment: str) -> None:
        """A command line that ends in the error."""
        self._add(title, means, line, environment, lambda: _printed(line, environment))

    def meeting(
        self, title: str, means: str, line: str, usual: int, serves: Serves, **environment: str
    ) -> None:
        """A command line that meets this in the place of a server at its usual port."""
        run = partial(_met, line, environment, usual, serves)
        self._add(title, means, line, environment, run, True)

    def _add(
        self,
        title: str,
        means: str,
        line: str,
        environment: Mapping[str, str],
        run: Callable[[], str],
        waits: bool = False,
    ) -> None:
        variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
        shown = " \\\n".join([*variables, line])
        self.entries.append(Entry(title, shown, "sh", means, run, waits))


def _body_of(function: Callable[..., Any]) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    body = re.sub(r"\A.*?\) -> None:\n(    \"\"\".*?\"\"\"\n\s*)?", "", source, flags=re.DOTALL)
    body = f"    {body.lstrip()}"
    return re.sub(r"  # (type: ignore|noqa).*", "", textwrap.dedent(body)).strip()


def _raised(function: Callable[..., Any]) -> str:
    async def run() -> None:
        if "bus" in inspect.signature(function).parameters:
            async with bank.build(Settings.in_memory()) as bus:
                await function(bus)
        else:
            await function()

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            if "documents" in inspect.signature(function).parameters:
                _with_documents(function)
            elif inspect.iscoroutinefunction(function):
                asyncio.run(run())
            else:
                function()
    except BusError as error:
        return told(f"{type(error).__name__}: {error}")
    raise AssertionError(f"{function.__name__} raised nothing")


def _with_documents(function: Callable[..., Any]) -> None:
    async def handler(query: bank.GetBalance, documents: Documents[bank.BalanceView]) -> None:
        await function(documents)

    there = given_documents({"a1": bank.BalanceView(owner="Ada", balance=5)})
    outcome = there.when_handled(bank.GetBalance(account_id="a1"), by=handler)
    if outcome.error:
        raise outcome.error


def _met(line: str, environment: Mapping[str, str], usual: int, serves: Serves) -> str:
    """In a process of its own: it takes the seconds that a server is waited for. The last line is
    shown; those before it are of the log."""
    with serves() as port:
        there = {k: v.replace(f":{usual}/", f":{port}/") for k, v in environment.items()}
        done = subprocess.run(
            [sys.executable, "-m", "bus", *_split(line)],
            env=_environment(there),
            capture_output=True,
            text=True,
            timeout=60,
        )
    if not done.returncode:
        raise AssertionError(f"{line}: it was done")
    words = done.stderr.strip().splitlines()[-1].replace(f":{port}", f":{usual}")
    return told(words) + _ended(done.returncode)


def _environment(values: Mapping[str, str]) -> dict[str, str]:
    return {**KEPT, "TERM": "dumb", "COLUMNS": str(WIDTH), **values}


def _printed(line: str, environment: Mapping[str, str]) -> str:
    with unittest.mock.patch.dict(os.environ, _environment(environment), clear=True):
        done = CliRunner().invoke(app, _split(line), standalone_mode=False)
    if isinstance(done.exception, typer.BadParameter):  # framed, in a terminal
        return told(f"Error: {done.exception.format_message()}") + _ended(done.exception.exit_code)
    if done.exit_code == 0 or not isinstance(done.exception, SystemExit):
        raise AssertionError(f"{line}: {done.exit_code}, {done.exception!r}")
    return told(done.stderr.strip()) + _ended(done.exit_code)


def _ended(status: int) -> str:
    return f"{ENDED}{status}"


def _split(line: str) -> list[str]:
    _, *words = shlex.split(line)
    return [word.replace("bank:", f"{bank.__name__}:") for word in words]


def told(words: str) -> str:
    """The words as a reader meets them, whose modules and functions are not these."""
    words = words.replace(str(Path.cwd()), "/home/ada/bank").replace(
        "/tools/errors/bank.py", "/bank.py"
    )
    words = re.sub(r"\btools\.errors\.\w+\b", "bank", words)
    words = re.sub(r"\bbank\.\w+\.<locals>\.", "bank.", words)
    return re.sub(r"\b\w+\.<locals>\.", "", words)
