"""Prints listings: a table for people, JSON for programs. Escapes what came from outside."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bus.observe.log import printable

PROGRESS = 30


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
