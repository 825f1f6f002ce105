"""The server's clock: by it goes whatever processes compare that may each have another time."""

import time
from datetime import UTC, datetime
from typing import Any

from bus.common import clock
from bus.stores.mongo.client import Client
from bus.stores.mongo.failures import hello

# A clock that goes on while the machine sleeps, where there is one.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

LONGEST = 0.5
"""Seconds that an answer may take which corrects what is known."""


class ServerClock:
    """The time by MongoDB's clock: as it was told last, and gone on since by a clock that nobody
    sets. Until it was told, the process's own."""

    def __init__(self) -> None:
        self._began: float | None = None
        """The server's time, in seconds, when the process's steady clock began."""

    def now(self) -> datetime:
        """The time, in UTC, in whole milliseconds."""
        if self._began is None:
            return clock.now()
        return clock.at(self._began + time.clock_gettime(_STEADY))

    async def look(self, client: Client) -> Any:
        """Asks the server for its time, and returns all that it tells of itself.

        Raises: StoreUnavailable.
        """
        asked = time.clock_gettime(_STEADY)
        server = await hello(client)
        took = time.clock_gettime(_STEADY) - asked
        if took < LONGEST or self._began is None:
            self._began = _seconds(server["localTime"]) - asked - took / 2
        return server


def _seconds(told: datetime) -> float:
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
