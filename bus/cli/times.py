"""Reads times as people write them."""

import re
from datetime import UTC, datetime, timedelta

import typer

from bus.common import clock

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


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
