"""How many deliveries a consumer may have at hand: so many that their bodies fit. No I/O."""

from bus.transports.base import MOST_WAITING

_KEPT = 63 / 64
"""What is left of the mean with each delivery."""
_WORTH_IT = 4
"""A consumer begins anew to get more room only for so many times as much: its turn costs some."""


class Room:
    """RabbitMQ counts deliveries, not bytes: so their number follows from their sizes of late."""

    def __init__(self, prefetch: int) -> None:
        self._wanted = prefetch
        self._mean = 0.0
        self.prefetch = prefetch
        """How many to ask for, the next time that it consumes."""

    def note(self, count: int, size: int) -> None:
        """So many were settled, of so many bytes."""
        if count:
            self._mean += (size / count - self._mean) * (1 - _KEPT**count)

    def narrows(self, count: int, size: int) -> bool:
        """Where so many bytes wait, which are too much: whether fewer deliveries would be less;
        from now on fewer are asked for."""
        if count < 2:
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
