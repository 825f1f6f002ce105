"""Asks the worker that runs on this machine for its health."""

import http.client
import json
from typing import Any

from bus.errors import ConfigurationError
from bus.settings import Settings

WITHIN = 4.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def ask_worker(settings: Settings) -> dict[str, Any]:
    """Returns the worker's report, or one that says so if it does not answer within 4 s.

    Raises: ConfigurationError if no port is set.
    """
    if not settings.health_port:
        raise ConfigurationError(
            "the worker cannot be asked: set BUS_HEALTH_PORT to a free port, for the worker and "
            "for this command alike, or let the application say Settings(health_port=...)"
        )
    host = ANYWHERE.get(settings.health_host, settings.health_host)
    connection = http.client.HTTPConnection(host, settings.health_port, timeout=WITHIN)
    try:
        connection.request("GET", "/readyz")
        report: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _silent(f"no answer at {host}:{settings.health_port} ({error})")
    finally:
        connection.close()
    return report


def _silent(what: str) -> dict[str, Any]:
    problem = {"part": "worker", "what": what, "seconds": 0, "breaks": "alive"}
    return {"alive": False, "ready": False, "problems": [problem]}


def shown(report: dict[str, Any]) -> str:
    """Formats the report for people: "ready" or "not ready", then a line for each problem."""
    lines = [
        f"  {problem['part']}: {problem['what']} (for {problem['seconds']:.0f} s)"
        for problem in report["problems"]
    ]
    return "\n".join(["ready" if report["ready"] else "not ready", *lines])
