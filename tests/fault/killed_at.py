"""A process on the real services that kills itself at a step. Arguments: step, when, service.

It pays into a wallet through its own bus first, with an id, as a web server in one process does.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, cast

from bus import Settings, Worker
from bus.assembly.backend import Backend, default_backend
from bus.observe.loops import Loops
from bus.testing import NO_FAULTS, Step, When
from bus.testing.simulation.broken import (
    BrokenCollections,
    BrokenEffects,
    BrokenEventLog,
    BrokenTransport,
    Fragile,
    handling,
)
from bus.testing.simulation.faults import Fate, Life
from tests.service.wallet import Diary, Pay, build, ledgers


class Mortal(Life):
    """Ends as processes do."""

    def __init__(self, step: str, when: str) -> None:
        super().__init__(Fate(0, NO_FAULTS))
        self._end = (step, when)

    async def reach(self, step: Step, when: When) -> None:
        if (step, when) == self._end:
            os.kill(os.getpid(), signal.SIGKILL)


LIFE = Mortal(*sys.argv[1:3])


class MortalSettings(Settings):
    """The real services, wrapped."""

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        real = default_backend(self)(service, projected, loops)
        return Backend(
            transport=cast(Any, BrokenTransport(cast(Any, real.transport), LIFE)),
            event_log=cast(Any, BrokenEventLog(real.event_log, LIFE)),
            collections=cast(Any, BrokenCollections(real.collections, LIFE)),
            control=cast(Any, Fragile(real.control, LIFE)),
            effects=cast(Any, BrokenEffects(real.effects, LIFE)),
            disconnect=real.disconnect,
            middleware=[handling(LIFE)],
        )


async def main() -> None:
    async with build(MortalSettings(), Diary(), sys.argv[3], also=[ledgers()]) as bus, Worker(bus):
        for amount in (1, 2, 3):
            await bus.execute(Pay(wallet_id="a", amount=amount, mood="grateful"), id=f"k{amount}")
        await asyncio.sleep(30)


asyncio.run(main())
