"""What happens to a log in SQL: what its server does not take, and whom it lets go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from random import Random

from tools.faults.sql import PASSWORD, locked, read_only
from tools.soak.faults.database import BLOCKED_FOR
from tools.soak.plan import SERVICE
from tools.soak.scene import Scene

LEFT = 200_000
"""Bytes that a full disk has left: a server may write some more before it notices."""


async def log_connections_ended(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The server ends all connections of the service."""
    await asyncio.to_thread(scene.sql_log.end_connections)
    yield


async def log_read_only(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The server takes no writes for some seconds; reads go on."""
    await _for_some_seconds(read_only(scene.sql_log.node), draw)
    yield


async def log_locked(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Whoever reads or writes commits waits for some seconds, as while a table is altered."""
    await _for_some_seconds(locked(scene.sql_log.node.url_of(SERVICE), "bus_commits"), draw)
    yield


async def log_password_rotated(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The server takes another password for some seconds, and cuts whoever was let in before."""
    log = scene.sql_log
    await asyncio.to_thread(log.set_password, "another")
    try:
        await asyncio.to_thread(log.end_connections)
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        await asyncio.to_thread(log.set_password, PASSWORD)
    yield


async def log_full(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """There is no room on the server's disk for some seconds; it may end for that."""
    disk = scene.sql_log.disk
    assert disk is not None
    await asyncio.to_thread(disk.fill, LEFT)
    try:
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        await asyncio.to_thread(disk.free)
    await asyncio.to_thread(scene.log.start)
    yield


async def _for_some_seconds(fault: AbstractContextManager[None], draw: Random) -> None:
    """Longer, at most, than a call waits. The server may take its time to begin or to end it."""
    await asyncio.to_thread(fault.__enter__)
    try:
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        await asyncio.to_thread(fault.__exit__, None, None, None)
