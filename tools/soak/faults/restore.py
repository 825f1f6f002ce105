"""A backup that is restored: the log and all that is made of it are older than the queues."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

from tools.services.ports import wait_until
from tools.soak.backup import Backup
from tools.soak.faults.database import locked_out
from tools.soak.ledger import mark_backup, mark_gone
from tools.soak.processes import LOAD, RELAY, WORKERS
from tools.soak.scene import Scene

GOES_ON = (11.0, 20.0)
"""Longer than from one record of what there is to the next: who still runs knows a later one."""
NOTICED_WITHIN = 15.0
RECORD = "commits/continuity"


async def restore(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The whole database is set back to a backup that was taken a while before, under load.

    Load, workers and relay are stopped for that; the probe's bus, as an API that nobody stopped, is
    locked out meanwhile. Then either the command that recovers runs first, or all is started and
    has to notice.
    """
    backup = Backup(scene.database, scene.folder / "backup")
    for path in scene.ledgers:
        mark_backup(path)
    await asyncio.to_thread(backup.take)
    await asyncio.sleep(draw.uniform(*GOES_ON))
    await _stop(scene)
    async with locked_out(scene):
        await asyncio.to_thread(scene.observer.finish)
        await asyncio.to_thread(backup.restore, anew=draw.random() < 0.5)
        await asyncio.to_thread(_mark_what_is_gone, scene)
        await asyncio.to_thread(scene.observer.start)
    if draw.random() < 0.5:
        await asyncio.to_thread(_recover, scene, "--all")
        await scene.start_processes()
    else:
        await scene.start_processes()
        await asyncio.to_thread(await_noticed, scene)
        await asyncio.to_thread(_recover, scene)
    yield


async def _stop(scene: Scene) -> None:
    """The load first: it waits for what workers do."""
    for name in (LOAD, RELAY, *WORKERS):
        await asyncio.to_thread(scene.processes.stop, name)


def _mark_what_is_gone(scene: Scene) -> None:
    held = {commit["_id"].partition("/")[0] for commit in scene.database["commits"].find({}, {})}
    for path in scene.ledgers:
        mark_gone(path, held)


def await_noticed(scene: Scene) -> None:
    """Waits until a worker has seen that what there is does not continue what was."""
    if not wait_until(lambda: _is_noticed(scene), NOTICED_WITHIN):
        scene.processes.complaints.append("nobody noticed that what there is is not what was")


def _is_noticed(scene: Scene) -> bool:
    record = scene.database["projections"].find_one({"_id": RECORD}) or {}
    return bool(record.get("broken"))


def _recover(scene: Scene, *options: str) -> None:
    scene.processes.command(scene.release, "recover", *options)
