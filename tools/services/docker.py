"""The services as containers of compose.yaml, where a Docker engine runs.

DOUBLEDECKER_NO_DOCKER leaves Docker alone; DOUBLEDECKER_AMQP_PORT, DOUBLEDECKER_MONGO_PORT, and
for the others DOUBLEDECKER_POSTGRESQL_PORT and the like, are the ports on this machine
(compose.yaml reads them too).
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

# For each service, the variable of its port, the usual port, and its URL with the port in it.
PLACES = {
    "rabbitmq": ("DOUBLEDECKER_AMQP_PORT", "5672", f"amqp://guest:guest@{LOOPBACK}:{{}}/"),
    "mongodb": ("DOUBLEDECKER_MONGO_PORT", "27017", f"mongodb://{LOOPBACK}:{{}}/?replicaSet=rs0"),
    "postgresql": (
        "DOUBLEDECKER_POSTGRESQL_PORT",
        "5432",
        f"postgresql+asyncpg://postgres@{LOOPBACK}:{{}}/postgres",
    ),
    "mariadb": ("DOUBLEDECKER_MARIADB_PORT", "3306", f"mysql+aiomysql://root@{LOOPBACK}:{{}}/"),
    "mysql": ("DOUBLEDECKER_MYSQL_PORT", "3307", f"mysql+aiomysql://root@{LOOPBACK}:{{}}/"),
    "kafka": ("DOUBLEDECKER_KAFKA_PORT", "9092", f"kafka://{LOOPBACK}:{{}}"),
    "opensearch": ("DOUBLEDECKER_OPENSEARCH_PORT", "9200", f"http://{LOOPBACK}:{{}}"),
    "elasticsearch": ("DOUBLEDECKER_ELASTICSEARCH_PORT", "9201", f"http://{LOOPBACK}:{{}}"),
}


def is_running() -> bool:
    """Whether an engine answers within 3 s, and has compose."""
    if os.environ.get(NO_DOCKER) or shutil.which("docker") is None:
        return False
    return _succeeds("info", "--format", "{{.ServerVersion}}") and _succeeds("compose", "version")


def url(name: str) -> str:
    variable, usual, form = PLACES[name]
    return form.format(os.environ.get(variable) or usual)


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
