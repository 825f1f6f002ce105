"""Plan: what is asked of a soak. Pure data."""

from collections.abc import Mapping
from typing import NamedTuple

from tools.soak.log import MONGODB

SERVICE = "soak"


class Plan(NamedTuple):
    """`faults` are kinds with how often each is drawn, in relation to the others.

    `minutes` is the time under load, `every` the seconds between one fault's recovery and the
    next fault, `authors` how many there are at a time. `wires` says before which servers there are
    proxies: "broker", "store" (MongoDB), "log" (a log in SQL). `log` is the store of the event log,
    whose server has a `small_disk` where that is to be filled. `sinks` are the stores in which
    projections are kept besides.
    """

    seed: int
    minutes: float
    faults: Mapping[str, float]
    nodes: int = 1
    members: int = 1
    every: float = 0.0
    authors: int = 96
    wires: frozenset[str] = frozenset()
    log: str = MONGODB
    small_disk: bool = False
    sinks: tuple[str, ...] = ()
