"""The jars of a server, fetched once by Maven into this user's cache folder.

Where Maven fetches from is its own configuration's affair. What is fetched belongs to the `pom.xml`
that named it: another version or plug-in gets a folder of its own.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.services.cache import cache_folder, locked
from tools.services.errors import ServiceUnavailable
from tools.services.packages import programs
from tools.services.process import bound_to
from tools.services.progress import say

HERE = Path(__file__).resolve().parent
MAIN = HERE / "SearchServer.java"  # starts what has no program of its own

PACKAGES = ("default-jdk-headless", "maven")  # Debian 12: Java 17
OLDEST = 17  # Java's version that all of the servers run on


@dataclass(frozen=True)
class Jars:
    """A server's jars, and the Java to run them with."""

    folder: Path
    version: str
    java: str

    @property
    def class_path(self) -> str:
        return f"{self.folder / 'classes'}:{self.folder / 'lib'}/*"


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched: `name` is that of the `pom.xml`, `variable` names a server instead.

    `packages` are those that `SearchServer.java` imports from; without them it is not needed.
    """

    name: str
    label: str
    variable: str
    packages: str = ""

    @property
    def pom(self) -> Path:
        return HERE / f"{self.name}.xml"

    @property
    def version(self) -> str:
        found = re.search(r"<server.version>(.+)</server.version>", self.pom.read_text())
        assert found, self.pom
        return found[1]

    @property
    def main(self) -> str:
        """The source of the program that starts the server."""
        return MAIN.read_text().replace("org.opensearch", self.packages) if self.packages else ""

    @property
    def folder(self) -> Path:
        content = self.pom.read_text() + self.main
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        return cache_folder() / "jars" / f"{self.name}-{self.version}-{digest}"

    def beside(self, ending: str) -> Path:
        return self.folder.with_name(self.folder.name + ending)


@cache
def fetched(wanted: Wanted) -> Jars:
    """The jars; fetches them, and installs Java and Maven, where they are missing.

    Raises `ServiceUnavailable` where they cannot be had.
    """
    java = _java(wanted)
    if not wanted.folder.exists():
        javac, maven = _programs(wanted, "javac", "mvn")
        with locked(wanted.beside(".lock")):
            if not wanted.folder.exists():
                _fetch(wanted, javac, maven)
    return Jars(wanted.folder, wanted.version, java)


def _java(wanted: Wanted) -> str:
    (java,) = _programs(wanted, "java")
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', done.stderr)
    if found is None or int(found[1]) < OLDEST:
        raise ServiceUnavailable(
            f"{wanted.label} needs Java {OLDEST}, and {java} is {found[1] if found else 'broken'}: "
            f"put a newer one first on the PATH, or set {wanted.variable}"
        )
    return java


def _programs(wanted: Wanted, *names: str) -> list[str]:
    return programs(*names, packages=PACKAGES, otherwise=f"set {wanted.variable}")


def _fetch(wanted: Wanted, javac: str, maven: str) -> None:
    """Fill the folder, whole or not at all."""
    say(f"Fetching {wanted.label} {wanted.version} by Maven (once, up to a minute) ...")
    fresh = wanted.beside(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    copying = ["dependency:copy-dependencies", f"-DoutputDirectory={fresh / 'lib'}"]
    words = [maven, "-q", "-B", "-f", str(wanted.pom), *copying, "-DincludeScope=runtime"]
    _finish(wanted, "Maven could not fetch it", words)
    if wanted.main:
        source = fresh / MAIN.name
        source.write_text(wanted.main)
        places = ["-cp", f"{fresh / 'lib'}/*", "-d", str(fresh / "classes")]
        _finish(wanted, "its program does not compile", [javac, "-proc:none", *places, str(source)])
    fresh.rename(wanted.folder)


def _finish(wanted: Wanted, failure: str, words: Sequence[str]) -> None:
    done = subprocess.run(
        # Nothing goes on once nobody waits for it.
        [*bound_to(os.getpid()), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ServiceUnavailable(
            f"{wanted.label} {wanted.version} cannot be had: {failure}: {' / '.join(lines[:3])}. "
            f"Mend that (Maven: its settings.xml and the network), or set {wanted.variable}"
        )
