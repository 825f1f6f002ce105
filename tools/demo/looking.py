"""Where to look: the page, the API, and health, metrics and log of each process that was kept."""

import asyncio
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from tools.demo import staying
from tools.demo.http import Response, get
from tools.demo.processes import TARGET
from tools.demo.staying import KeptDemo
from tools.services import kept
from tools.services.finding import LABELS
from tools.services.ports import places, wait_until

API = "api"
HEALTH, METRICS = "/readyz", "/metrics"
READY_WITHIN = 60.0


class Seen(NamedTuple):
    """A process as it is now: `health` is a URL, empty where it has none, and `said` what is told
    there; `metrics` a URL, if there are some."""

    name: str
    pid: int
    runs: bool
    health: str
    said: str
    metrics: str
    log: str


class Sight(NamedTuple):
    """All that there is to look at."""

    url: str
    processes: list[Seen]
    servers: dict[str, str]
    environment: str
    stop: str

    @property
    def ended(self) -> list[str]:
        return [one.name for one in self.processes if not one.runs]

    def as_json(self) -> dict[str, Any]:
        processes = [one._asdict() for one in self.processes]
        return {**self._asdict(), "page": f"{self.url}/", "api": self.api, "processes": processes}

    @property
    def api(self) -> str:
        return f"curl '{self.url}/api/v1/jobs?limit=3'"


def look(demo: KeptDemo, folder: Path) -> Sight:
    """Asks each process that runs for its health and its metrics."""
    api = demo.processes.get(API)
    return Sight(
        api.url if api else "",
        asyncio.run(_seen(demo)),
        {LABELS[name]: _where(one.url, one.origin) for name, one in demo.servers.items()},
        str(staying.environment_file(demo)),
        stop_command(folder),
    )


def wait(demo: KeptDemo) -> None:
    """Waits until all are ready, because one was killed and is still starting."""
    wait_until(lambda: all(map(_is_ready, asyncio.run(_seen(demo)))), READY_WITHIN)


def stop_command(folder: Path) -> str:
    """Returns the command that ends what is kept in a folder."""
    elsewhere = "" if folder == kept.FOLDER else f" --folder {shlex.quote(str(folder))}"
    return f"bin/demo --stop{elsewhere}"


def show(sight: Sight, console: Console) -> None:
    """Prints it as lines that can be copied: none is broken."""
    runs = {one.name for one in sight.processes if one.runs}
    lines = ["", "It is kept running. Where to look:" if runs else "Nothing of it runs any more."]
    if API in runs:
        lines += [f"  page      {sight.url}/", f"  API       {sight.api}"]
        lines += [f"            {sight.url}/docs describes it"]
    for one in sight.processes:
        lines += ["", *_of_process(one)]
    lines += ["", *(f"  {name:9} {where}" for name, where in sight.servers.items())]
    lines += ["", f"Commands: . {sight.environment}; .venv/bin/bus projections status {TARGET}"]
    lines += [f"How to stop it: {sight.stop}"]
    if any("(kept)" in where for where in sight.servers.values()):
        lines += ["The servers stay until: bin/services down"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _is_ready(one: Seen) -> bool:
    return not (one.runs and one.health) or one.said == "ready"


def _of_process(one: Seen) -> list[str]:
    told = f"process {one.pid}" if one.runs else f"ended, and not by --stop (process {one.pid})"
    lines = [f"  {one.name:9} {told}"]
    lines += [f"    health  {one.health} ({one.said})"] if one.health else []
    lines += [f"    metrics {one.metrics}"] if one.metrics else []
    return [*lines, f"    log     {one.log}"]


async def _seen(demo: KeptDemo) -> list[Seen]:
    running = demo.running
    return list(
        await asyncio.gather(*(_ask(demo, name, runs=name in running) for name in demo.processes))
    )


async def _ask(demo: KeptDemo, name: str, *, runs: bool) -> Seen:
    process = demo.processes[name]
    health = await get(process.url, HEALTH) if runs else None
    metrics = await get(process.url, METRICS) if runs else None
    return Seen(
        name,
        process.pid,
        runs,
        process.url + HEALTH if runs else "",
        _said(health),
        process.url + METRICS if metrics and metrics.status == 200 else "",
        process.log,
    )


def _said(health: Response | None) -> str:
    if health is None:
        return "no answer"
    return "ready" if health.status == 200 else "not ready"


def _where(url: str, origin: str) -> str:
    """Host and port only: a URL may hold a password."""
    where = ", ".join(f"{host}:{port}" for host, port in places(url))
    return f"{where or 'in the API process'} ({origin})"
