"""What happens to MongoDB: writes that it does not take; and to its primary, in a set of three."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from tools.soak.scene import RIGHTS, USER, Scene

BLOCKED_FOR = 8.0
"""Longer than a call waits for a write, so that errors have their say."""


async def writes_blocked(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """MongoDB takes no writes of users for some seconds; reads go on."""
    await _admin(scene, {"setUserWriteBlockMode": 1, "global": True})
    try:
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        await _admin(scene, {"setUserWriteBlockMode": 1, "global": False})
    yield


async def locked_for_backup(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """All writes wait, as while files are copied for a backup."""
    await _admin(scene, {"fsync": 1, "lock": True})
    try:
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        await _admin(scene, {"fsyncUnlock": 1})
    yield


async def store_password_rotated(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """MongoDB takes another password for some seconds; whoever was let in before is cut off."""
    await _user(scene, pwd="another")
    try:
        for wire in scene.store_wires:
            wire.cut()
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        await _user(scene, pwd=USER)
    yield


async def store_rights_revoked(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The service's user may do nothing in MongoDB for some seconds."""
    async with locked_out(scene):
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    yield


@asynccontextmanager
async def locked_out(scene: Scene) -> AsyncIterator[None]:
    """The service's user may do nothing in MongoDB meanwhile."""
    await _user(scene, roles=[])
    try:
        yield
    finally:
        await _user(scene, roles=RIGHTS)


async def _user(scene: Scene, **changes: Any) -> None:
    await _admin(scene, {"updateUser": USER, **changes})


async def _admin(scene: Scene, command: dict[str, Any]) -> None:
    await asyncio.to_thread(scene.client.admin.command, command)


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
