"""Prints listings: a table for people, JSON for programs. Escapes what came from outside, and reads
times as people write them."""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from bus.common import clock
from bus.observe.log import printable

PROGRESS = 30

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def print_json(value: Any) -> None:
    """Prints a value as JSON, times in ISO 8601."""
    print(json.dumps(value, indent=2, default=as_text))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows under their heads, cut off at the edge of a terminal."""
    lines = [list(heads), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip()[:edge])


def cell(value: object) -> str:
    """Formats a value for people, on one line."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return printable(str(value))


def lines(value: object) -> str:
    """Formats a value in full, lists and objects on several lines."""
    if isinstance(value, Mapping) and value:
        return json.dumps(value, indent=2)
    if isinstance(value, tuple | list):
        return "".join(f"\n  {cell(item)}" for item in value)
    return cell(value)


def print_progress(done: int, of: int, seconds: float = 0.0) -> None:
    """Draws the progress on a terminal; with `seconds` passed, also the rate and the time left."""
    if sys.stderr.isatty():
        drawn = "#" * (PROGRESS * done // of)
        pace = f"  {_pace(done, of, seconds)}" if done and seconds else ""
        end = "\n" if done == of else ""
        print(f"\r[{drawn:<{PROGRESS}}] {done}/{of}{pace}", end=end, file=sys.stderr, flush=True)


def _pace(done: int, of: int, seconds: float) -> str:
    """Formats rate and time left, padded to overwrite what was there before."""
    left = timedelta(seconds=round(seconds * (of - done) / done))
    return f"{done / seconds:,.0f}/s, {left} left".ljust(30)


def as_text(value: object) -> str:
    """Formats what JSON has no type for: times in ISO 8601, all else as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def moment(text: str) -> datetime:
    """Reads a time in ISO 8601 (UTC if no zone is given), or how long ago: 90s, 30m, 2h, 3d.

    Raises: typer.BadParameter.
    """
    if ago := _AGO.fullmatch(text):
        return clock.now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a valid time: write 2026-11-28T22:00, 2026-11-28T22:00+01:00, or "
            f"30m, 2h, 3d"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
