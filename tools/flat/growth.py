"""Growth: what samples say of a phase, and whether anything grows with time."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

from tools.flat.samples import COUNTED, Sample

SETTLING = 0.2
"""The part of a phase at its beginning that does not count: caches fill, pools open."""
FEWEST = 4

# Less than this, or than a share of what is there, is no growth: an allocator's and a pool's play.
PLAY = {
    "rss_kib": 4096,
    "descriptors": 4,
    "connections": 4,
    "threads": 3,
    "tasks": 4,
    "objects": 1000,
}
SHARE = {"rss_kib": 0.04, "objects": 0.01}
MOST_TYPES = 5


class Growth(NamedTuple):
    """A quantity over a phase: medians of its first and last quarter, and the slope between all
    pairs of samples (the median one, so that single peaks count for nothing)."""

    first: float
    last: float
    per_hour: float
    grows: bool


def growths(samples: Sequence[Sample]) -> dict[str, Growth]:
    """For each quantity that must not grow; empty where there are too few samples to tell."""
    kept = samples[int(len(samples) * SETTLING) :]
    if len(kept) < FEWEST:
        return {}
    return {name: _growth(name, kept) for name in COUNTED}


def _growth(name: str, samples: Sequence[Sample]) -> Growth:
    quarter = max(1, len(samples) // 4)
    first, last = (
        median(getattr(one, name) for one in part)
        for part in (samples[:quarter], samples[-quarter:])
    )
    per_hour = _slope([(one.seconds / 3600, getattr(one, name)) for one in samples])
    hours = (samples[-1].seconds - samples[0].seconds) / 3600
    most = max(PLAY[name], SHARE.get(name, 0.0) * first)
    return Growth(first, last, per_hour, last - first > most and per_hour * hours > most)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil and Sen's: the median of the slopes of all pairs."""
    pairs = combinations(points, 2)
    return median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if b[0] > a[0])


def types_grown(samples: Sequence[Sample]) -> dict[str, int]:
    """The types of objects of which a phase left the most more, with how many."""
    kept = samples[int(len(samples) * SETTLING) :]
    first, last = kept[0].types, kept[-1].types
    grown = {name: count - first[name] for name, count in last.items() if name in first}
    return {name: count for name, count in Counter(grown).most_common(MOST_TYPES) if count > 0}


def cpu_share(samples: Sequence[Sample]) -> float:
    """The part of one core that a process used in a phase."""
    first, last = samples[0], samples[-1]
    return (last.cpu_seconds - first.cpu_seconds) / max(last.seconds - first.seconds, 1e-9)
