"""Runs the HTTP API: `python -m handlers.http`, or `bin/api`."""

import argparse
import sys

from bus import ConfigurationError, Settings, Worker, log
from handlers.app import build
from handlers.http import create_app
from handlers.http.server import Server


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/api", description="The job board over HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--with-worker", action="store_true", help="run the read deck in this process as well"
    )
    chosen = parser.parse_args()
    log.configure()
    try:
        bus = build(Settings())
    except ConfigurationError as error:
        sys.exit(f"bin/api: {error}")
    app = create_app(bus, worker=Worker(bus) if chosen.with_worker else None)
    Server(app, chosen.host, chosen.port).run()


if __name__ == "__main__":
    main()
