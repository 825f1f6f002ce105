"""Figures: the numbers that a service sets, checked and read in one meaning. Pure."""

from datetime import timedelta
from typing import Any, SupportsIndex

from bus.errors import LONGEST, ConfigurationError

Seconds = float | timedelta
"""A duration: seconds as a number, or a timedelta."""


def whole(value: Any, what: str, *, least: int, most: int | None = None) -> int:
    """Returns a value as an int. Raises: ConfigurationError if it is no whole number, or out of
    range."""
    number = least - 1
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        number = value.__index__()
    reach = f"{least} or more"
    if most is not None and number > most:
        reach = f"{most} at most"
    elif number >= least:
        return number
    raise ConfigurationError(f"{what}={value!r:.100}: give a whole number, {reach}")


def seconds(value: Any, what: str, *, zero: bool, otherwise: str = "") -> float:
    """Returns a duration (a number or a timedelta) in seconds; 0 is valid only with `zero`.

    Raises: ConfigurationError if it is not a valid one; `otherwise` is what else can be done.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    reach = "0 or more" if zero else "more than 0"
    if isinstance(number, int | float) and not isinstance(number, bool):
        if number > LONGEST:
            reach = f"{LONGEST:,} at most"
        elif number > 0 or (zero and number == 0):
            return float(number)
    raise ConfigurationError(
        f"{what}={value!r:.100}: give seconds, {reach}, as a number or a timedelta{otherwise}"
    )
