"""What the commands share: their parameters, the loop they run on, how they end by an error."""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from bus.errors import BusError, ConfigurationError

Result = TypeVar("Result")

Target = Annotated[str, typer.Argument(help="the service: module:function, as handlers.app:build")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where the extra is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def guarded(action: Callable[[], Result]) -> Result:
    """The action's result; an error of ours ends the program with its message.

    The status is 2 where the program or its settings are to be mended, else 1.
    """
    try:
        return action()
    except BusError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, ConfigurationError) else 1) from None
