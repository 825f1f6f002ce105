"""Schedule: the sequence of faults that a seed draws, the same each time."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from random import Random
from typing import NamedTuple

from tools.faults import small_disk
from tools.soak.faults import KINDS, Kind
from tools.soak.log import MONGODB
from tools.soak.plan import Plan


class Fault(NamedTuple):
    """One fault of a run: its kind, and the source of its own choices."""

    kind: Kind
    draw: Random


def schedule(plan: Plan) -> Iterator[Fault]:
    """Faults without end; what one of them draws does not move the next one."""
    draw = Random(f"{plan.seed}/faults")
    weights = dict(plan.faults)
    drawn = Counter[str]()
    while weights:
        (name,) = draw.choices(list(weights), list(weights.values()))
        yield Fault(KINDS[name], Random(draw.getrandbits(64)))
        drawn[name] += 1
        if drawn[name] == KINDS[name].most:
            del weights[name]


def chosen(text: str, log: str = MONGODB, sinks: Collection[str] = ()) -> dict[str, float]:
    """The kinds and weights that `--faults` names: `all`, `none`, or `kind,kind=weight,...`.

    `all` are those that one node, one member, this log and these sinks can have here. Raises:
    ValueError.
    """
    if text == "none":
        return {}
    if text == "all":
        return {k.name: k.weight for k in KINDS.values() if _is_usual(k, log, sinks)}
    return dict(_weighted(part, log, sinks) for part in text.split(","))


class Needs(NamedTuple):
    """What kinds of faults need: nodes of RabbitMQ, members of MongoDB, proxies, a small disk."""

    nodes: int
    members: int
    wires: frozenset[str]
    small_disk: bool


def needed(names: Iterable[str], log: str = MONGODB) -> Needs:
    """What these kinds need, all together. What leads to a log in MongoDB is the store's wire."""
    kinds = [KINDS[name] for name in names]
    wires = {kind.wires for kind in kinds if kind.wires}
    if log == MONGODB and "log" in wires:
        wires = wires - {"log"} | {"store"}
    return Needs(
        max((kind.nodes for kind in kinds), default=1),
        max((kind.members for kind in kinds), default=1),
        frozenset(wires),
        any(kind.disk for kind in kinds),
    )


def _is_usual(kind: Kind, log: str, sinks: Collection[str]) -> bool:
    if kind.disk and not small_disk.available():
        return False
    if _why_not(kind, sinks):
        return False
    return kind.nodes == kind.members == 1 and log in kind.logs


def _why_not(kind: Kind, sinks: Collection[str]) -> str:
    """Why a run with these sinks cannot have it; "" if it can."""
    if kind.alone and sinks:
        return "is not for a run with --sinks"
    if kind.sinks and not set(kind.sinks) & set(sinks):
        return f"needs --sinks {' or '.join(kind.sinks)}"
    return ""


def _weighted(part: str, log: str, sinks: Collection[str]) -> tuple[str, float]:
    name, _, weight = part.partition("=")
    if name not in KINDS:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(KINDS)}")
    kind = KINDS[name]
    if log not in kind.logs:
        raise ValueError(f"{name} is for --log {' or '.join(kind.logs)}, not for {log}")
    if why := _why_not(kind, sinks):
        raise ValueError(f"{name} {why}")
    if kind.disk and not small_disk.available():
        raise ValueError(f"{name} needs root, who may mount a small disk")
    return name, float(weight) if weight else kind.weight
