"""How many deliveries a consumer may have at hand: so many that their bodies fit. No I/O."""

from bus.transports.base import MOST_WAITING

_WEIGHT = 1 / 64
_WORTH_IT = 4
"""A consumer begins anew to get more room only for so many times as much: its turn costs some."""


class Room:
    """RabbitMQ counts deliveries, not bytes: so their number follows from their sizes of late."""

    def __init__(self, prefetch: int) -> None:
        self._wanted = prefetch
        self._mean = 0.0
        self.prefetch = prefetch
        """How many to ask for, the next time that it consumes."""

    def note(self, size: int) -> None:
        """So long was the last one."""
        self._mean += (size - self._mean) * _WEIGHT

    def is_over(self, count: int, size: int) -> bool:
        """Whether so many, of so many bytes, are too much; from now on fewer are asked for."""
        if size <= MOST_WAITING or count < 2:
            return False
        self._mean = max(self._mean, size / count)
        self.prefetch = max(1, min(self._fits(), self.prefetch))
        return True

    def is_narrow(self) -> bool:
        """Whether far more would fit than are asked for, and are wanted; from now on they are."""
        if self.prefetch == self._wanted:
            return False
        fitting = min(self._fits(), self._wanted)
        if fitting < _WORTH_IT * self.prefetch:
            return False
        self.prefetch = fitting
        return True

    def _fits(self) -> int:
        return int(MOST_WAITING / 2 / max(self._mean, 1.0))
