"""The server's clock, for times that several processes compare: their own clocks may differ."""

import time
from datetime import UTC, datetime
from typing import Any

from bus.common import clock
from bus.stores.mongo.client import Client, check_usable
from bus.stores.mongo.failures import hello, no_transactions

# A clock that goes on while the machine sleeps, if there is one.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

LONGEST = 0.5
"""How many seconds an answer may take and still correct a known time."""


class ServerClock:
    """The time by MongoDB's clock: its last answer, continued by a clock that nobody sets. Before
    the first answer it is the process's own time."""

    def __init__(self) -> None:
        self._began: float | None = None
        """The server's time, in seconds, when the process's steady clock began."""

    def now(self) -> datetime:
        """Returns the time, in UTC, in whole milliseconds."""
        if self._began is None:
            return clock.now()
        return clock.at(self._began + time.clock_gettime(_STEADY))

    async def look(self, client: Client) -> Any:
        """Asks the server for its time, and returns its whole answer to `hello`.

        Raises: StoreUnavailable.
        """
        asked = time.clock_gettime(_STEADY)
        server = await hello(client)
        took = time.clock_gettime(_STEADY) - asked
        if took < LONGEST or self._began is None:
            self._began = _seconds(server["localTime"]) - asked - took / 2
        return server


async def check_server(client: Client, own: ServerClock) -> None:
    """Looks at the server's clock.

    Raises: StoreUnavailable; ConfigurationError (the client cannot be used here, or the server has
    no transactions).
    """
    check_usable(client)
    server = await own.look(client)
    if "setName" not in server and server.get("msg") != "isdbgrid":
        raise no_transactions()


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
