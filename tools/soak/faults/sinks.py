"""What happens to stores of other technologies, and to those who write there at once."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

from tools.services.ports import wait_until
from tools.soak.faults.database import BLOCKED_FOR
from tools.soak.faults.processes import one_of_two_workers
from tools.soak.faults.restore import RECORD, await_noticed
from tools.soak.faults.wires import cut
from tools.soak.scene import Scene
from tools.soak.sinks.plan import FED_WORKERS, JOBS, KAFKA, SENT, name_in
from tools.soak.sinks.store import Store

STANDS_STILL = (11.0, 16.0)
"""Longer than Kafka waits for a sign of life (10 s) before it gives partitions to another one."""
DELAY = 0.2
RECORDED_WITHIN = 60.0


async def worker_frozen(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A worker stands still within what it does, and the other one takes over; then it goes on, and
    does not know that it is no longer in charge."""
    name = await one_of_two_workers(scene, draw)
    await asyncio.to_thread(scene.processes.freeze, name)
    try:
        await asyncio.to_thread(
            scene.any_broker().control, "close_all_connections", "one stands still"
        )
        await asyncio.sleep(draw.uniform(0.5, 8))
    finally:
        scene.processes.thaw(name)
    yield


async def sink_wire_cut(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A connection to a store is reset within a message, or all of them at once."""
    await cut(_store(scene, draw).wire, draw)
    yield


async def sink_half_open(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Every connection to a store stays open, and nothing passes on it any more."""
    _store(scene, draw).wire.half_open()
    yield


async def sink_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to a store's server; it is started again."""
    store = _store(scene, draw)
    await asyncio.to_thread(store.node.kill)
    await asyncio.sleep(draw.uniform(0, 3))
    await asyncio.to_thread(store.start)
    yield


async def sink_stop(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A store's server is stopped cleanly, and started again."""
    store = _store(scene, draw)
    await asyncio.to_thread(store.node.stop)
    await asyncio.to_thread(store.start)
    yield


async def sink_freeze(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A store's server does not get on for some seconds; its connections stay open."""
    store = _store(scene, draw)
    store.node.pause()
    try:
        await asyncio.sleep(draw.uniform(0.5, 2 * BLOCKED_FOR))
    finally:
        store.node.resume()
    yield


async def sink_slow(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Every request to a store, and every answer, is late for some seconds."""
    wire = _store(scene, draw).wire
    wire.delay = DELAY
    try:
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        wire.delay = 0
    yield


async def sink_refuses(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A store takes no writes for some seconds: a database is read-only, an engine's disk is full
    (flood stage), Kafka has not as many replicas as a record needs."""
    refusing = _store(scene, draw).refusing()
    await asyncio.to_thread(refusing.__enter__)
    try:
        await asyncio.sleep(draw.uniform(0.5, BLOCKED_FOR))
    finally:
        await asyncio.to_thread(refusing.__exit__, None, None, None)
    yield


async def sink_emptied(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A store's server comes back with nothing, and an operator does what the docs say."""
    store = _store(scene, draw)
    if store.name != KAFKA:
        await asyncio.to_thread(_await_recorded, scene, store)
    await asyncio.to_thread(store.wipe)
    await asyncio.to_thread(store.start)
    if store.name == KAFKA:  # nobody can notice
        await _command(scene, "rebuild", SENT, of="projections")
    else:
        await asyncio.to_thread(await_noticed, scene)
        await _command(scene, "recover")
    yield


async def fed_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to a worker of the service that is fed; its partitions go to the other one."""
    name = await _one_of_the_fed(scene, draw)
    await asyncio.to_thread(scene.processes.kill, name)
    scene.processes.start(name)
    yield


async def fed_frozen(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A worker of the service that is fed stands still, until its partitions have gone to the
    other one; then it goes on."""
    name = await _one_of_the_fed(scene, draw)
    await asyncio.to_thread(scene.processes.freeze, name)
    try:
        await asyncio.sleep(draw.uniform(*STANDS_STILL))
    finally:
        scene.processes.thaw(name)
    yield


def _store(scene: Scene, draw: Random) -> Store:
    store = draw.choice(list(scene.elsewhere.stores.values()))
    scene.struck = store.name
    return store


async def _one_of_the_fed(scene: Scene, draw: Random) -> str:
    for name in FED_WORKERS:
        await asyncio.to_thread(scene.processes.await_worker, name)
    return draw.choice(FED_WORKERS)


async def _command(scene: Scene, *words: str, of: str = "events") -> None:
    name, *options = words
    run = scene.processes.command
    await asyncio.to_thread(lambda: run(scene.release, name, *options, of=of))


def _await_recorded(scene: Scene, store: Store) -> None:
    """Waits until it was written down what the store holds: before, nobody could miss it."""

    def is_recorded() -> bool:
        record = scene.database["projections"].find_one({"_id": RECORD}) or {}
        return scene.collection(name_in(store.name, JOBS)) in dict(record.get("collections", ()))

    if not wait_until(is_recorded, RECORDED_WITHIN):
        scene.processes.complaints.append(f"what {store.name} holds was not written down")
