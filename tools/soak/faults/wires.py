"""What a network does: connections reset at any byte, or silent for good."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

from tools.faults.proxy import Proxy, Towards
from tools.services.ports import wait_until
from tools.soak.scene import Scene

MOST_BYTES = 20_000
CUT_WITHIN = 0.5


async def wire_cut(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A connection to RabbitMQ reset within a frame, or all of them at once."""
    await cut(draw.choice(scene.broker_wires), draw)
    yield


async def store_wire_cut(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A connection to MongoDB reset within a message, or all of them at once."""
    await cut(draw.choice(scene.store_wires), draw)
    yield


async def log_wire_cut(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A connection to the log in SQL reset within a message, or all of them at once."""
    await cut(scene.log_wire, draw)
    yield


async def half_open(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Every connection to RabbitMQ stays open, and nothing passes on it any more."""
    draw.choice(scene.broker_wires).half_open()
    yield


async def store_half_open(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Every connection to MongoDB stays open, and nothing passes on it any more."""
    draw.choice(scene.store_wires).half_open()
    yield


async def log_half_open(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Every connection to the log in SQL stays open, and nothing passes on it any more."""
    scene.log_wire.half_open()
    yield


async def cut(wire: Proxy, draw: Random) -> None:
    """Resets one of its connections at any byte, or all of them."""
    size, towards = draw.randrange(MOST_BYTES), draw.choice(list(Towards))
    if draw.random() < 0.5:
        await _cut_one(wire, size, towards)
    else:
        wire.cut()


async def _cut_one(wire: Proxy, size: int, towards: Towards) -> None:
    """Where too little passes for that, it is cut as it is."""
    before = wire.cuts
    wire.cut_after(size, towards)
    if not await asyncio.to_thread(wait_until, lambda: wire.cuts > before, CUT_WITHIN, 0.005):
        wire.cut()
