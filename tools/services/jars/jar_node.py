"""What nodes of servers in Java have in common: a small machine, settings, data to be wiped."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tools.services.errors import ServiceUnavailable
from tools.services.jars.fetching import Jars, Wanted, fetched
from tools.services.node import Node
from tools.services.process import ServerProcess

# Several of them stand beside other servers and the tests, on few cores: they are to be started
# soon and to rest quietly, not to be fast for hours.
FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dlog4j2.level=WARN",
    "-Dlog4j2.disable.jmx=true",
    "-Djava.awt.headless=true",
)


class JarNode(Node):
    """One private server in Java; `settings` go to it besides ours, and `heap` is in MiB."""

    wanted: ClassVar[Wanted]

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        heap: int = 256,
        detached: bool = False,
    ) -> None:
        super().__init__(folder, port=port, detached=detached)
        self.settings = settings or {}
        self.heap = heap

    @property
    def version(self) -> str:
        return self._jars.version

    def wipe(self) -> None:
        """Crash where it runs, and delete its data: `start` brings it back empty."""
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    # --- what a node must say of itself ------------------------------------------------------

    def _log_files(self) -> list[Path]:
        return [self._log]

    # --- within ----------------------------------------------------------------------------

    @property
    def _jars(self) -> Jars:
        return fetched(self.wanted)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "server.out"

    def _run(self, *words: str) -> ServerProcess:
        return ServerProcess.start(
            self._java(*words),
            environment=self._environment(),
            log=self._log,
            detached=self.detached,
        )

    def _java(self, *words: str) -> list[str]:
        """The command that runs a class of its jars, with arguments."""
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        places = [f"-Djava.io.tmpdir={scratch}", "-cp", self._jars.class_path]
        return [self._jars.java, *FLAGS, f"-Xmx{self.heap}m", *places, *words]

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's but the PATH; the folder's name tells whose a process is."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "DOUBLEDECKER_NODE": str(self.folder),
        }

    def _unavailable(self, reason: str) -> ServiceUnavailable:
        return ServiceUnavailable(self._failure(reason))
