"""What happens to MongoDB's primary, in a set of three."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

from tools.soak.scene import Scene


async def primary_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to the primary, until another member is elected; it is started again afterwards.

    The next fault waits until it takes part again: of a set with two failing members nobody is
    elected.
    """
    primary = await asyncio.to_thread(scene.mongo.await_primary)
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(scene.mongo.await_primary, other_than=primary)
    yield
    await asyncio.to_thread(scene.mongo.start)


async def primary_freeze(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The primary does not get on, until another member is elected; then it wakes up again."""
    primary = await asyncio.to_thread(scene.mongo.await_primary)
    primary.pause()
    try:
        await asyncio.to_thread(scene.mongo.await_primary, other_than=primary)
        yield
        await asyncio.sleep(draw.uniform(0, 2))
    finally:
        primary.resume()
    await asyncio.to_thread(scene.mongo.start)


async def step_down(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The primary is told to give up its place, until another member has it."""
    before = await asyncio.to_thread(scene.mongo.step_down)
    await asyncio.to_thread(scene.mongo.await_primary, other_than=before)
    yield
