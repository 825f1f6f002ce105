"""The services as containers of compose.yaml, where a Docker engine runs.

DOUBLEDECKER_NO_DOCKER leaves Docker alone; DOUBLEDECKER_AMQP_PORT and DOUBLEDECKER_MONGO_PORT are
the ports on this machine (compose.yaml reads them too).
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.services.errors import ServiceUnavailable
from tools.services.ports import LOOPBACK

NO_DOCKER = "DOUBLEDECKER_NO_DOCKER"
ROOT = Path(__file__).resolve().parents[2]

ASK_SECONDS = 3
START_SECONDS = 600  # the first time, images are downloaded


def is_running() -> bool:
    """Whether an engine answers within 3 s, and has compose."""
    if os.environ.get(NO_DOCKER) or shutil.which("docker") is None:
        return False
    return _succeeds("info", "--format", "{{.ServerVersion}}") and _succeeds("compose", "version")


def url(name: str) -> str:
    if name == "rabbitmq":
        port = os.environ.get("DOUBLEDECKER_AMQP_PORT") or "5672"
        return f"amqp://guest:guest@{LOOPBACK}:{port}/"
    port = os.environ.get("DOUBLEDECKER_MONGO_PORT") or "27017"
    return f"mongodb://{LOOPBACK}:{port}/?replicaSet=rs0"


def up(names: Sequence[str]) -> list[str]:
    """Start containers and await their health; returns those that did not run before."""
    before = _compose("ps", "--services", "--status", "running").split()
    _compose("up", "--detach", "--wait", *names)
    return [name for name in names if name not in before]


def stop(names: Sequence[str]) -> None:
    if names:
        _compose("stop", *names)


def _compose(*arguments: str) -> str:
    command = ["docker", "compose", "--file", str(ROOT / "compose.yaml"), *arguments]
    done = _run(command, START_SECONDS)
    if done is None or done.returncode != 0:
        why = done.stderr.strip() if done else f"no answer after {START_SECONDS} s"
        raise ServiceUnavailable(
            f"`docker compose {' '.join(arguments)}` failed: {why}. Mend that, or set {NO_DOCKER}=1"
        )
    return done.stdout


def _succeeds(*arguments: str) -> bool:
    done = _run(["docker", *arguments], ASK_SECONDS)
    return done is not None and done.returncode == 0


def _run(command: Sequence[str], seconds: float) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
