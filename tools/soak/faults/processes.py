"""What happens to the service's own processes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from random import Random

from tools.soak.processes import LOAD, RELAY, WORKERS
from tools.soak.scene import Scene


async def consumer_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to a worker; the other one takes over, and it is started again."""
    name = await one_of_two_workers(scene, draw)
    await asyncio.to_thread(scene.processes.kill, name)
    scene.processes.start(name)
    yield


async def sigterm(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGTERM to a worker under load: it finishes what it holds, and leaves."""
    name = await one_of_two_workers(scene, draw)
    await asyncio.to_thread(scene.processes.stop, name)
    scene.processes.start(name)
    yield


async def relay_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to the relay; a worker's takes over, and it is started again."""
    await asyncio.to_thread(scene.processes.kill, RELAY)
    scene.processes.start(RELAY)
    yield


async def client_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to the load, in the midst of its commands; it goes on from its ledger."""
    await asyncio.to_thread(scene.processes.kill, LOAD)
    scene.processes.start(LOAD)
    yield


async def other_release(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A worker is stopped, and started as the other release; one of release 2 stays from then on.

    Release 2 handles an event that release 1, beside it on the same queue, does not know.
    """
    name = await one_of_two_workers(scene, draw)
    releases = scene.processes.releases
    others = [one for one in WORKERS if one != name]
    stays = releases.get(name) == "2" and any(releases.get(one) == "2" for one in others)
    releases[name] = "1" if stays else "2"
    await asyncio.to_thread(scene.processes.stop, name)
    scene.processes.start(name)
    if scene.release_2_since is None:
        await asyncio.to_thread(scene.processes.await_worker, name)
        scene.release_2_since = datetime.now(UTC)
    yield


async def one_of_two_workers(scene: Scene, draw: Random) -> str:
    """Both have to run: what is measured is a take-over, and not the start of a process."""
    for name in WORKERS:
        await asyncio.to_thread(scene.processes.await_worker, name)
    return draw.choice(WORKERS)
