"""A process that moves a log, or writes to it. Arguments: what, the service, two places.

Moving, it kills itself at the step that `what` names; `writing`, it appends until it is refused,
and says so with every commit.
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import Any

from bus.common import clock
from bus.errors import StoreUnavailable
from bus.operate import log_copy
from bus.operate.log_copy import LogCopy
from bus.operate.log_place import LogPlace
from bus.testing.contracts.event_log_contract import commit
from tests.fault.places import opened

STEPS = {
    "copying": ("import_commits", 3),
    "fencing": ("fence", 1),
    "fenced": ("import_commits", 2),
    "letting": ("unfence", 1),
}
"""By its name: the call after whose so-manieth time it ends."""


class Mortal:
    """A log whose process ends after a call."""

    def __init__(self, inner: Any, name: str, times: int) -> None:
        self._inner = inner
        self._name = name
        self._left = times

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._deadly(found) if name == self._name else found

    def _deadly(self, call: Any) -> Any:
        async def called(*given: Any) -> None:
            await call(*given)
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return called


async def move(step: str, service: str, old: LogPlace, new: LogPlace) -> None:
    """Moves the log, and is killed; steps behind the fence need something to be left for them."""
    name, times = STEPS[step]
    mortal: Any = Mortal(old.log if step == "fencing" else new.log, name, times)
    if step == "fencing":
        old = old._replace(log=mortal)
    elif step != "fenced":
        new = new._replace(log=mortal)
    copying = LogCopy(service, old, new)
    if step == "fenced":
        await copying.follow()
        await old.log.append([commit("late", "late-1", time=clock.now())])
        new = new._replace(log=Mortal(new.log, name, 1))
        await old.log.fence(copying._moved)
        copying = LogCopy(service, old, new)
    await copying.finish()


async def write(old: LogPlace) -> None:
    for number in range(100_000):
        try:
            await old.log.append([commit(f"w{number}", f"written-{number}", time=clock.now())])
        except StoreUnavailable as error:
            print(f"refused: {error}", flush=True)
            return
        print(number, flush=True)


async def main() -> None:
    what, service, old_place, new_place = sys.argv[1:]
    log_copy.GRACE = timedelta(seconds=1)
    log_copy.PUBLISHED_WITHIN = 0.5
    async with opened(old_place) as old:
        if what == "writing":
            await write(old)
            return
        async with opened(new_place) as new:
            await move(what, service, old, new)


if __name__ == "__main__":
    asyncio.run(main())
