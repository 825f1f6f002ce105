"""`bin/bench [name] [--quick] [--json]`: runs benchmarks on services that it starts itself."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.end_to_end import measure as end_to_end
from bench.poison import measure as poison
from tools.services import services

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers"


def main() -> None:
    """Runs one benchmark."""
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("name", nargs="?", default="end_to_end", choices=["end_to_end", "poison"])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and commands")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with services(need=("rabbitmq", "mongodb")) as found:
        urls = found.amqp_url, found.mongo_url
        if options.name == "poison":
            result = poison.measure(*urls, quick=options.quick)
            shown = poison.report(result)
        else:
            result = end_to_end.measure(*urls, peers_python(), quick=options.quick)
            shown = end_to_end.report(result)
    print(json.dumps(result, indent=2) if options.json else shown)


def peers_python() -> Path:
    """The Python of the peers' own virtual environment, made where it is missing."""
    python = PEERS / "bin" / "python"
    wanted = (ROOT / "bench" / "peers.txt").read_text()
    stamp = PEERS / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("Setting up the peers' virtual environment ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        requirements = ["-r", str(ROOT / "bench" / "peers.txt")]
        done = subprocess.run([*pip, *requirements], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the peers could not be installed:\n{done.stderr}")
        stamp.write_text(wanted)
    return python


if __name__ == "__main__":
    main()
