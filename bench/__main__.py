"""`bin/bench [name ...] [--quick] [--json] [--plot FOLDER]`: runs benchmarks, on services that it
starts itself."""

import argparse
import json
import platform
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.services import Servers
from tools.services import Found, services

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers"
OURS = (
    "aio-pika",
    "aiormq",
    "motor",
    "pymongo",
    "pydantic",
    "sqlalchemy",
    "asyncpg",
    "aiomysql",
    "opensearch-py",
    "aiokafka",
)

NAMES = (
    "end_to_end",
    "publish",
    "consume",
    "append",
    "append_sql",
    "outbox",
    "transacting",
    "projecting",
    "projecting_sql",
    "projecting_search",
    "projecting_kafka",
    "rebuilding",
    "rebuilding_sql",
    "loading",
    "latency",
    "live_cost",
    "live_delay",
    "growth",
    "dispatch",
    "starting",
    "telemetry",
    "poison",
)


def main() -> None:
    """Runs the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(NAMES)}; all where none is named")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller counts")
    parser.add_argument("--rounds", type=int, help="how often each side runs")
    parser.add_argument("--count", type=int, help="how many, instead of what each case says")
    parser.add_argument("--only", default="", help="those cases alone in whose label this is")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", type=Path, help="a folder for pictures of what can be drawn")
    options = parser.parse_args()
    unknown = [name for name in options.name if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    peers = peers_python()
    results = []
    benchmarks = [import_module(f"bench.{name}").BENCHMARK for name in options.name or NAMES]
    more = [n for b in benchmarks for n in (*getattr(b, "sql", ()), *getattr(b, "java", ()))]
    chosen = {"count": options.count, "only": options.only}
    chosen = {name: value for name, value in chosen.items() if value}
    with services(need=("rabbitmq", "mongodb", *more)) as found:
        servers = Servers.of(found)
        for benchmark in benchmarks:
            result = benchmark.measure(
                servers, peers, quick=options.quick, rounds=options.rounds, **chosen
            )
            results.append(result)
            if not options.json:
                print(f"{benchmark.report(result)}\n", flush=True)
            if options.plot and hasattr(benchmark, "plot"):
                print(benchmark.plot(result, options.plot, peers), file=sys.stderr)
        versions = {**_versions(), **_server_versions(found)}
    if options.json:
        result = results[0] if len(results) == 1 else {"results": results}
        print(json.dumps({**result, "versions": versions}, indent=2))
    else:
        print(", ".join(f"{name} {number}" for name, number in versions.items()))


def peers_python() -> Path:
    """The Python of the peers' own virtual environment, made where it is missing."""
    python = PEERS / "bin" / "python"
    wanted = (ROOT / "bench" / "peers.txt").read_text()
    stamp = PEERS / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("Setting up the peers' virtual environment ...", file=sys.stderr)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        requirements = ["-r", str(ROOT / "bench" / "peers.txt")]
        done = subprocess.run([*pip, *requirements], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the peers could not be installed:\n{done.stderr}")
        stamp.write_text(wanted)
    return python


def _versions() -> dict[str, str]:
    """Ours, and those of the peers that are pinned."""
    wanted = (ROOT / "bench" / "peers.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)\S*?==(\S+)", wanted, re.MULTILINE))
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in OURS},
        **pinned,
    }


def _server_versions(found: Found) -> dict[str, Any]:
    more = [one.node for one in (*found.sql.values(), *found.java.values())]
    nodes: list[Any] = [found.rabbitmq, found.mongodb, *more]
    return {node.label: node.version for node in nodes if node}


if __name__ == "__main__":
    main()
