"""One soak: start everything, break things under load, let it settle, compare."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tools.soak import settling
from tools.soak.account import account
from tools.soak.calls import Caller
from tools.soak.ledger import Ledger, lines
from tools.soak.plan import SERVICE, Plan
from tools.soak.probe import NotRecovered, Probe
from tools.soak.processes import LOAD
from tools.soak.report import Recovery, Report
from tools.soak.scene import Scene
from tools.soak.schedule import Fault, schedule
from tools.soak.screen import Bar, Screen
from tools.soak.service import build
from tools.soak.tail import Tail

MOVES_WITHIN = 60.0
SHOW_EVERY = 0.5


class SoakFailed(Exception):
    """The soak cannot go on; the message says why, and where to look."""


class Battered(NamedTuple):
    """How the time under load went."""

    recoveries: list[Recovery]
    broken_off: str
    minutes: float


async def run(plan: Plan, folder: Path, screen: Screen) -> Report:
    """Raises: SoakFailed, ServiceError."""
    with_sinks = f", and {', '.join(plan.sinks)}" if plan.sinks else ""
    screen.stage(
        f"Starting {plan.nodes} RabbitMQ and {plan.members} MongoDB, the log in {plan.log}, two "
        f"workers, a relay and a load{with_sinks}; seed {plan.seed} ..."
    )
    async with Scene(plan, folder) as scene:
        await scene.start_processes()
        await asyncio.to_thread(scene.observer.start)
        battered = await _under_load(scene, screen)
        screen.stage("Letting the load end, and what is under way arrive ...")
        await asyncio.to_thread(scene.processes.stop, LOAD)
        await asyncio.to_thread(scene.processes.end_roll_out)
        unsettled = await asyncio.to_thread(settling.settle, scene)
        await asyncio.to_thread(scene.observer.finish)
        screen.stage("Comparing the ledger with the log, and the log with every document ...")
        verdict = await asyncio.to_thread(settling.judge, scene)
        await asyncio.to_thread(scene.processes.stop_all)
        for wire in scene.wires:
            wire.cut()
        leaked = await asyncio.to_thread(settling.leaked, scene)
        ledgers = account(chain(*map(lines, scene.ledgers)))
        return Report(
            plan,
            scene.versions,
            ledgers,
            verdict,
            battered.recoveries,
            scene.processes.failed_starts,
            battered.broken_off,
            [*unsettled, *scene.processes.complaints],
            [*leaked, *ledgers.left_tasks],
            scene.observer.sequence.changes,
            battered.minutes,
            folder,
            scene.elsewhere.repeats,
        )


async def _under_load(scene: Scene, screen: Screen) -> Battered:
    tail = Tail(scene.ledger_path)
    began = time.monotonic()
    recoveries: list[Recovery] = []
    broken_off = ""
    async with _probing(scene) as probe:
        recovering = Recovering(scene, probe, tail)
        await recovering.recovered(began)
        screen.stage("Breaking things under load ...")
        began = time.monotonic()
        with screen.bar(scene.plan.minutes * 60) as bar:
            try:
                await _batter(scene, recovering, recoveries, bar)
            except NotRecovered as error:
                broken_off = str(error)
    return Battered(recoveries, broken_off, (time.monotonic() - began) / 60)


async def _batter(
    scene: Scene, recovering: "Recovering", recoveries: list[Recovery], bar: Bar
) -> None:
    """One fault after the other, until the time is up."""
    ends = time.monotonic() + scene.plan.minutes * 60
    latest = ""
    for fault in schedule(scene.plan):
        if time.monotonic() > ends:
            break
        recovery = await _strike(scene, recovering, fault)
        recoveries.append(recovery)
        latest = f"{recovery.kind} {recovery.seconds:.2f} s"
        bar.show(recovering.tail.accepted, len(recoveries), latest)
        await asyncio.sleep(scene.plan.every)
    while time.monotonic() < ends:
        bar.show(recovering.tail.accepted, len(recoveries), latest)
        await asyncio.sleep(SHOW_EVERY)


async def _strike(scene: Scene, recovering: "Recovering", fault: Fault) -> Recovery:
    scene.struck = ""
    async with fault.kind.inject(scene, fault.draw):
        over = time.monotonic()
        try:
            seconds = await recovering.recovered(over) - over
        except NotRecovered as error:
            raise NotRecovered(f"after {fault.kind.name}: {error}") from None
    if ended := scene.processes.tend():
        raise SoakFailed(f"{', '.join(ended)} ended by itself; the logs are in {scene.folder}")
    _note(scene, fault, seconds)
    return Recovery(fault.kind.name, seconds, fault.kind.within)


def _note(scene: Scene, fault: Fault, seconds: float) -> None:
    line = {"at": datetime.now(UTC).isoformat(), "fault": fault.kind.name, "recovered_s": seconds}
    line |= {"store": scene.struck} if scene.struck else {}
    line |= {"last": scene.elsewhere.behind} if scene.elsewhere.stores else {}
    with (scene.folder / "faults.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


class Recovering:
    """Knows when the service has recovered: a fresh command is visible, and the load moves."""

    def __init__(self, scene: Scene, probe: Probe, tail: Tail) -> None:
        self.tail = tail
        self._scene = scene
        self._probe = probe

    async def recovered(self, moment: float) -> float:
        """When it had, after `moment`. Raises: NotRecovered."""
        before = self.tail.accepted
        visible = await self._probe.first_after(moment)
        while self.tail.accepted == before:
            visible = time.monotonic()
            if visible > moment + MOVES_WITHIN:
                raise NotRecovered(f"the load stands still for {MOVES_WITHIN:g} s")
            self._scene.processes.tend()
            await asyncio.sleep(0.01)
        return visible


@asynccontextmanager
async def _probing(scene: Scene) -> AsyncIterator[Probe]:
    """A probe at work, whose bus is closed afterwards."""
    with Ledger(scene.probes_path) as ledger:
        async with build(scene.settings, SERVICE, scene.elsewhere.urls) as bus:
            probe = Probe(Caller(bus, ledger), scene.mongo.url, scene.elsewhere)
            task = asyncio.create_task(probe.run())
            try:
                yield probe
            finally:
                task.cancel()
                await asyncio.wait([task])
