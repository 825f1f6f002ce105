"""A private Prometheus node, of Debian's packages or of a Prometheus on the PATH.

It runs the very files that are made for production, only faster: what takes minutes there takes
seconds here, and there is no second copy of a rule that could differ.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from tools.services.errors import CommandFailed, ServiceUnavailable
from tools.services.node import Node
from tools.services.packages import unpacked
from tools.services.ports import LOOPBACK
from tools.services.process import ServerProcess

SERVER, TOOL = "prometheus", "promtool"  # the packages are named so, too
OTHERWISE = f"put {SERVER} and {TOOL} on the PATH"

SECOND = 1.0
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_DURATION = r"(\d+)(ms|[smhdw])"
_WAITS = re.compile(rf"(?m)^(\s*for: ){_DURATION}$")
_EVERY = re.compile(rf"(?m)^(\s*\w*(?:interval|timeout): ){_DURATION}$")
_RANGE = re.compile(rf"(\[){_DURATION}(?=\])")
_MARKED = re.compile(r"(?m)(\d+)(?=\s+# seconds$)")

_OPENER = build_opener(ProxyHandler({}))


class Alert(NamedTuple):
    """An alert whose expression gives something now: `pending` until that has lasted, then
    `firing`."""

    name: str
    state: str
    labels: dict[str, str]


class Sample(NamedTuple):
    """One of the series that an expression gives, and its value now."""

    labels: dict[str, str]
    value: float


class PrometheusNode(Node):
    """One Prometheus of our own, which reads `config`, `rules` and the places of `scrape`.

    `config` names its rules and targets by files beside it: `rules` and `targets.json`. All times
    in them are divided by `speed`; those in which it scrapes are a second at least.
    """

    label: ClassVar[str] = "Prometheus"

    def __init__(
        self,
        folder: Path,
        *,
        config: Path | None = None,
        rules: Path | None = None,
        speed: int = 1,
        port: int | None = None,
        detached: bool = False,
    ) -> None:
        super().__init__(folder, port=port, detached=detached)
        self.config = config
        self.rules = rules
        self.speed = speed

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def version(self) -> str:
        return self._version

    # --- what it is asked for ----------------------------------------------------------------

    def scrape(self, ports: Iterable[int]) -> None:
        """Have it scrape these ports of this machine, and no others, from now on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        targets = [{"targets": [f"{LOOPBACK}:{port}" for port in ports]}]
        fresh = self.folder / "targets.new"
        fresh.write_text(json.dumps(targets))
        fresh.replace(self.folder / "targets.json")

    def alerts(self) -> list[Alert]:
        """The alerts that are pending or firing now."""
        found = self.api("alerts")["alerts"]
        labels = [dict(one["labels"]) for one in found]
        return [
            Alert(its.pop("alertname"), one["state"], its)
            for one, its in zip(found, labels, strict=True)
        ]

    def query(self, expression: str) -> list[Sample]:
        """The series of an expression now. Raises `CommandFailed` where it is wrong."""
        result = self.api("query", query=expression)
        if result["resultType"] == "scalar":
            return [Sample({}, float(result["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in result["result"]]

    def api(self, path: str, **parameters: str) -> Any:
        """The data of `/api/v1/path`. Raises `CommandFailed` with its words where it refuses."""
        url = f"{self.url}/api/v1/{path}?{urlencode(parameters)}"
        try:
            with _OPENER.open(url, timeout=30) as response:
                return json.loads(response.read())["data"]
        except HTTPError as error:
            with error:
                raise CommandFailed(f"{path} {parameters}: {error.read().decode()}") from error

    # --- what a node must say of itself ------------------------------------------------------

    def _require_linux(self) -> None:
        """Nothing: it runs anywhere."""

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        for file in (self.config, self.rules):
            if file is not None:
                (self.folder / file.name).write_text(faster(file.read_text(), by=self.speed))
        if not (self.folder / "targets.json").exists():
            self.scrape([])

    def _launch(self) -> ServerProcess:
        config = self.folder / (self.config.name if self.config else "prometheus.yml")
        config.touch()
        return ServerProcess.start(
            [
                *(str(programs()[0]), f"--config.file={config}"),
                *(f"--web.listen-address={LOOPBACK}:{self.port}", "--log.level=warn"),
                *(
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    "--storage.tsdb.retention.time=1d",
                ),
            ],
            environment=dict(os.environ),
            log=self._log,
            detached=self.detached,
        )

    def _await_ready(self, deadline: float) -> None:
        while not self._is_ready():
            self._still_starting(deadline)
            time.sleep(0.05)

    def _log_files(self) -> list[Path]:
        return [self._log]

    # --- within ----------------------------------------------------------------------------

    @cached_property
    def _version(self) -> str:
        done = subprocess.run(
            [str(programs()[0]), "--version"], capture_output=True, text=True, check=False
        )
        found = re.search(r"version (\S+)", done.stdout + done.stderr)
        if found is None:
            raise ServiceUnavailable(f"{programs()[0]} tells no version: {OTHERWISE}")
        return found[1].partition("+")[0]

    @property
    def _log(self) -> Path:
        return self.folder / "prometheus.out"

    def _is_ready(self) -> bool:
        try:
            with _OPENER.open(f"{self.url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def programs() -> tuple[Path, Path]:
    """Where `prometheus` and `promtool` are; unpacks Debian's packages where they are not.

    Raises `ServiceUnavailable` where they cannot be had.
    """
    server, tool = shutil.which(SERVER), shutil.which(TOOL)
    if server and tool:
        return Path(server), Path(tool)
    folder = unpacked(SERVER, otherwise=OTHERWISE) / "usr" / "bin"
    if not (folder / TOOL).exists():  # Debian 13 has a package for each
        return folder / SERVER, unpacked(TOOL, otherwise=OTHERWISE) / "usr" / "bin" / TOOL
    return folder / SERVER, folder / TOOL


def promtool(*words: str, folder: Path) -> str:
    """What promtool says. Raises `CommandFailed` with its words where it finds something wrong."""
    done = subprocess.run(
        [str(programs()[1]), *words], cwd=folder, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise CommandFailed(f"promtool {' '.join(words)}: {said}")
    return said


def faster(text: str, *, by: int) -> str:
    """Rules, or a configuration, with all times divided: how long an expression has to last, the
    ranges that it looks at, how often it is looked (a second at least), and each number at the end
    of a line that the comment `# seconds` follows."""

    def shorter(found: re.Match[str], least: float = 0.001) -> str:
        before, number, unit = found.groups()
        milliseconds = max(int(number) * SECONDS[unit] / by, least) * 1000
        return f"{before}{milliseconds:.0f}ms"

    if by == 1:
        return text
    text = _WAITS.sub(shorter, text)
    text = _RANGE.sub(lambda found: shorter(found, 3 * SECOND), text)
    text = _EVERY.sub(lambda found: shorter(found, SECOND), text)
    return _MARKED.sub(lambda found: f"{int(found[1]) / by:g}", text)
