"""Services that `bin/services up` keeps running until `bin/services down`.

Their folder holds the nodes' folders and `state.json`, which says where each of them is.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.services.cache import locked

FOLDER = Path(__file__).resolve().parents[2] / ".services"


@dataclass(frozen=True)
class KeptService:
    """Where a kept service is, and what runs it: `docker` or `private`."""

    url: str
    origin: str


def read(folder: Path) -> dict[str, KeptService]:
    """The services kept in a folder, by name; they may have died since."""
    try:
        state = json.loads(_state_file(folder).read_text())
    except FileNotFoundError:
        return {}
    return {name: KeptService(**service) for name, service in state.items()}


def write(folder: Path, kept: dict[str, KeptService]) -> None:
    """Replace what is written there."""
    replace(_state_file(folder), {name: asdict(service) for name, service in kept.items()})


def replace(file: Path, state: object) -> None:
    """Write a file anew, whole: a reader sees the old or the new state. Only this user may read
    it, because URLs may hold passwords."""
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(state, indent=2) + "\n")
    fresh.replace(file)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Hold off every other `up` and `down` of this folder."""
    with locked(folder / "lock"):
        yield


def _state_file(folder: Path) -> Path:
    return folder / "state.json"
