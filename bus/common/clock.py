"""Time, ids and chance: the one seam through which they enter.

A test (or seeded chaos) replaces `clock.source` to control all three.
"""

import asyncio
import os
import random
import time
import uuid
from datetime import UTC, datetime
from functools import lru_cache

_VERSION_AND_VARIANT = (7 << 76) | (0b10 << 62)
_CHANCE = (1 << 76) - 1 - (0b11 << 62)


class Source:
    """The real clock and a real random generator."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self.seed()

    def seed(self) -> None:
        """Seeds anew from the system: a forked child would otherwise draw what its parent draws."""
        self.bits = random.Random(self._random.getrandbits(128)).getrandbits

    seconds = staticmethod(time.time)

    def elapsed(self) -> float:
        """Returns seconds since some moment: for pauses, because setting the clock does not affect
        it."""
        return time.monotonic()

    def fraction(self) -> float:
        return self.bits(53) / 2**53

    def jittered(self, seconds: float) -> float:
        return seconds * (0.5 + self.fraction())


source = Source()
_real = source
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_real.seed)


def now() -> datetime:
    """Returns the current time, in UTC, in whole milliseconds (what the event log can keep)."""
    return at(source.seconds())


def at(seconds: float) -> datetime:
    """Returns the time so many seconds after 1970, in UTC, in whole milliseconds."""
    return _first_digits_and_time(int(seconds * 1000))[1]


def new_id() -> str:
    """Returns a new id: 32 hexadecimal digits, a UUID of version 7 (RFC 9562); ids sort by time."""
    return new_id_and_time()[0]


def new_id_and_time() -> tuple[str, datetime]:
    """Returns a new id, and the time that it sorts by, from one reading of the clock.

    48 bits of time, 80 of chance; version and variant replace six of those.
    """
    digits, moment = _first_digits_and_time(int(source.seconds() * 1000))
    bits = source.bits  # first into a local: calling an instance's attribute directly costs more
    chance = bits(80) & _CHANCE | _VERSION_AND_VARIANT
    return digits + chance.to_bytes(10, "big").hex(), moment


def time_of(id: str) -> datetime | None:
    """Returns when an id was made, by its maker's clock; None if the id does not contain it.

    UUIDs of version 7 do, with hyphens or without.
    """
    try:
        number = uuid.UUID(id)
        if number.version != 7:
            return None
        return datetime.fromtimestamp((number.int >> 80) / 1000, UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=4)  # for all calls in the same millisecond, by several clocks
def _first_digits_and_time(milliseconds: int) -> tuple[str, datetime]:
    return f"{milliseconds:012x}", datetime.fromtimestamp(milliseconds / 1000, UTC)


def jittered(seconds: float) -> float:
    """Returns `seconds`, give or take a half, so that many waiters do not come back at once."""
    return source.jittered(seconds)


def is_cancelled() -> bool:
    """Returns whether the current task is being cancelled, rather than something it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
