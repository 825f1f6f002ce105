"""Schedule: the sequence of faults that a seed draws, the same each time."""

from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from tools.soak.faults import KINDS, Kind
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


def chosen(text: str) -> dict[str, float]:
    """The kinds and weights that `--faults` names: `all`, `none`, or `kind,kind=weight,...`.

    `all` are those that one node and one member can have. Raises: ValueError.
    """
    if text == "none":
        return {}
    if text == "all":
        return {k.name: k.weight for k in KINDS.values() if k.nodes == k.members == 1}
    return dict(_weighted(part) for part in text.split(","))


def needed(names: Iterable[str]) -> tuple[int, int, frozenset[str]]:
    """How many nodes of RabbitMQ and members of MongoDB these kinds need, and which wires."""
    kinds = [KINDS[name] for name in names]
    return (
        max((kind.nodes for kind in kinds), default=1),
        max((kind.members for kind in kinds), default=1),
        frozenset(kind.wires for kind in kinds if kind.wires),
    )


def _weighted(part: str) -> tuple[str, float]:
    name, _, weight = part.partition("=")
    if name not in KINDS:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(KINDS)}")
    return name, float(weight) if weight else KINDS[name].weight
