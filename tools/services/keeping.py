"""`up`, `down` and `status`: services that outlive the command that started them."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tools.services import docker, kept
from tools.services.finding import (
    EVERYTHING,
    KINDS,
    LABELS,
    VARIABLES,
    Place,
    make_nodes,
    standing,
    start_in_docker,
    start_together,
)
from tools.services.kept import KeptService
from tools.services.ports import reachable
from tools.services.progress import say


def up(folder: Path, more: Sequence[str] = ()) -> dict[str, str]:
    """Start what is missing and keep it; returns the variables that name the services.

    `more` are services besides those that are always meant.
    """
    wanted = [*EVERYTHING, *more]
    with kept.changing(folder):
        found = standing(wanted, folder)
        started = _start([name for name in wanted if name not in found], folder)
        kept.write(folder, kept.read(folder) | started)
    urls = {name: place.url for name, place in found.items()}
    urls |= {name: service.url for name, service in started.items()}
    return {VARIABLES[name]: urls[name] for name in wanted}


def down(folder: Path, *, remove: bool) -> None:
    """Stop what `up` keeps in this folder; `remove` deletes private nodes' data too."""
    with kept.changing(folder):
        state = kept.read(folder)
        docker.stop([name for name, service in state.items() if service.origin == "docker"])
        # Not only those that the state names: an `up` that was killed had no time to write it.
        for name, node in make_nodes(KINDS, folder).items():
            running = node.adopt()
            node.close(remove=remove)
            if running:
                say(f"Stopped {LABELS[name]}.")
        kept.write(folder, {})


def status(folder: Path) -> dict[str, dict[str, str | bool]]:
    """What `up` keeps in this folder, and whether it answers."""
    state = kept.read(folder)
    # What was asked for besides is there only once it was.
    return {name: _describe(state.get(name)) for name in [*EVERYTHING, *state]}


def _describe(service: KeptService | None) -> dict[str, str | bool]:
    if service is None:
        return {"running": False, "url": "", "origin": "none"}
    return {"running": reachable(service.url), "url": service.url, "origin": service.origin}


def _start(missing: list[str], folder: Path) -> dict[str, KeptService]:
    found, _ = start_in_docker(missing)
    found |= _start_private([name for name in missing if name not in found], folder)
    return {name: KeptService(place.url, place.origin) for name, place in found.items()}


def _start_private(missing: list[str], folder: Path) -> dict[str, Place]:
    nodes = make_nodes(missing, folder, detached=True)
    with ExitStack() as on_failure:
        for node in nodes.values():
            on_failure.callback(node.close)
        for error in start_together(nodes).values():
            raise error
        on_failure.pop_all()
    return {name: Place(node.url, "private", node) for name, node in nodes.items()}
