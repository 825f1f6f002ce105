"""Tally: what the load did and what it was answered, counted as it goes."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Figures of a load. `reached` is the highest version of each stream that a receipt told of."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    tried_again: int = 0
    unexpected: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    reached: dict[str, int] = field(default_factory=dict)
    began: float = 0.0
    ended: float | None = None

    def start(self) -> None:
        self.began = time.monotonic()

    @property
    def commands(self) -> int:
        return self.accepted + self.refused.total()

    @property
    def per_second(self) -> float:
        return self.commands / max((self.ended or time.monotonic()) - self.began, 1e-6)

    def note(self, versions: Mapping[str, int]) -> None:
        for stream, version in versions.items():
            self.reached[stream] = max(version, self.reached.get(stream, 0))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all are not above; 0 where there are none."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
