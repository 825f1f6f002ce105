"""What an error ends as: the status that the job board's API answers, and that of a command."""

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import cache
from io import StringIO

import httpx
from fastapi import FastAPI

from bus import errors
from bus.cli import contracts, deadletters, events, projections, stores
from bus.cli.operating import topology
from bus.cli.running import guarded
from bus.errors import BusError
from handlers.http.problems import add_problems

GROUPS = (deadletters, projections, events, contracts, stores, topology)


def kinds() -> list[type[BusError]]:
    """All classes of errors, each after what it is a kind of."""
    found = [one for one in vars(errors).values() if isinstance(one, type)]
    return [one for one in found if issubclass(one, BusError) and one is not BusError]


async def http_status(kind: type[BusError]) -> int:
    app = FastAPI()
    add_problems(app)

    @app.get("/")
    async def fail() -> None:
        raise _error(kind)

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://jobs") as client:
        return (await client.get("/")).status_code


def exit_status(kind: type[BusError]) -> int:
    def fail() -> None:
        raise _error(kind)

    try:
        guarded(fail)
    except SystemExit as ended:
        return int(str(ended.code))
    raise AssertionError(f"a command goes on after {kind.__name__}")


def _error(kind: type[BusError]) -> BusError:
    _, *asked = inspect.signature(kind.__init__).parameters.values()
    needed = [one for one in asked if one.kind is one.POSITIONAL_OR_KEYWORD]
    given = ["1" if one.annotation is str else 1 for one in needed if one.default is one.empty]
    return kind(*given)


@cache
def of_classes() -> dict[str, tuple[int, int]]:
    """Both, by the names of the classes."""
    with redirect_stderr(StringIO()):
        return {
            kind.__name__: (asyncio.run(http_status(kind)), exit_status(kind)) for kind in kinds()
        }


def of_commands() -> Iterator[str]:
    """What each group of commands says of its statuses, as rows of a table."""
    for group in GROUPS:
        words = " ".join((group.__doc__ or "").partition("Exit status: ")[2].split())
        assert words, group
        yield f"| `bus {group.app.info.name}` | {words.removesuffix('.')} |"
