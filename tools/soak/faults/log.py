"""What happens to the server of the event log, whichever that is."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

from tools.soak.faults.database import BLOCKED_FOR
from tools.soak.scene import Scene

SLOW_FOR = (2.0, 6.0)
LATE = 0.2
"""Seconds by which each request is late, and each answer."""
TRICKLE, BYTES = 0.01, 200
"""How many bytes pass at a time, and the seconds between: 20 KB a second."""


async def log_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to the server; it is started again."""
    await asyncio.to_thread(scene.log.node.kill)
    await asyncio.sleep(draw.uniform(0, 1))
    await asyncio.to_thread(scene.log.start)
    yield


async def log_stop(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The server is stopped cleanly, and started again."""
    await asyncio.to_thread(scene.log.node.stop)
    await asyncio.to_thread(scene.log.start)
    yield


async def log_freeze(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The server does not get on for some seconds; its connections stay open."""
    scene.log.node.pause()
    try:
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        scene.log.node.resume()
    yield


async def log_slow(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Requests and answers are late for some seconds, or trickle."""
    wire = scene.log_wire
    wire.delay, wire.piece = draw.choice([(LATE, 0), (TRICKLE, BYTES)])
    try:
        await asyncio.sleep(draw.uniform(*SLOW_FOR))
    finally:
        wire.delay, wire.piece = 0.0, 0
    yield
