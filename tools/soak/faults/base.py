"""What a fault is."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Literal, NamedTuple

from tools.soak.log import LOGS
from tools.soak.scene import Scene

Injection = Callable[[Scene, Random], AsyncIterator[None]]
"""Breaks something, and yields when the fault is over: from then on the service has to recover.

After the yield, which returns when it has, it mends what the service can do without.
"""


class Kind(NamedTuple):
    """A kind of fault: what it does, how often it is drawn, and within how many seconds of its end
    the service is expected to have recovered. `nodes` and `members` are what it needs at
    least, `wires` before what there have to be proxies, `logs` the stores that the log may be in,
    and `disk` whether its server's has to be one that can be filled; it comes `most` times in a
    run, where that is not 0. `sinks` are those of which it needs one, and `alone` says that it is
    not for a run with sinks."""

    name: str
    injection: Injection
    weight: float
    within: float
    nodes: int = 1
    members: int = 1
    wires: Literal["", "broker", "store", "log"] = ""
    most: int = 0
    logs: Collection[str] = LOGS
    disk: bool = False
    sinks: Collection[str] = ()
    alone: bool = False

    def inject(self, scene: Scene, draw: Random) -> AbstractAsyncContextManager[None]:
        """Entered when the fault is over; to be left when the service has recovered."""
        return asynccontextmanager(self.injection)(scene, draw)
