"""Allowance: so many at once, and as many more after a while."""

import time


class Allowance:
    """Allows `most` at once, and as many more in each `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._left = float(most)
        self._at = time.monotonic()

    def take(self, wanted: int = 1) -> int:
        """Takes as many as may be had of those wanted; returns how many."""
        now = time.monotonic()
        self._left += (now - self._at) * self._most / self._seconds
        self._left, self._at = min(self._left, self._most), now
        had = min(wanted, int(self._left))
        self._left -= had
        return had
