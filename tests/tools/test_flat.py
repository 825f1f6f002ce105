"""What the flat run says of samples: what grows, and what only plays."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.flat.growth import growths, types_grown
from tools.flat.inside import counted
from tools.flat.samples import Sample, sample


def samples(objects: Callable[[int], float], count: int = 60, every: float = 15.0) -> list[Sample]:
    """One each so many seconds, all steady but for the objects."""
    return [
        Sample(n * every, 60_000, 20, 10, 5, 12, int(objects(n)), 0.1 * n, {"a.B": int(objects(n))})
        for n in range(count)
    ]


def test_a_slow_leak_is_told_with_its_slope_and_its_type() -> None:
    leaking = samples(lambda n: 100_000 + n * 100)
    found = growths(leaking)
    assert found["objects"].grows
    assert found["objects"].per_hour == pytest.approx(24_000)
    assert types_grown(leaking) == {"a.B": 4_700}
    assert not any(one.grows for name, one in found.items() if name != "objects")


def test_a_start_that_fills_caches_peaks_and_noise_are_no_growth() -> None:
    draw = random.Random(7)

    def filling(n: int) -> float:
        peak = 40_000 if n in (20, 41) else 0
        return 100_000 - 30_000 * (n < 9) + draw.uniform(-500, 500) + peak

    assert not growths(samples(filling))["objects"].grows


def test_too_few_samples_tell_nothing() -> None:
    assert growths(samples(lambda n: 1000 * n, count=3)) == {}


async def test_a_process_is_counted_from_within_and_from_without(tmp_path: Path) -> None:
    before = counted()
    tasks = [asyncio.create_task(asyncio.sleep(60)) for _ in range(5)]
    held = [[n] for n in range(1000)]
    after = counted()
    assert after["tasks"] == before["tasks"] + 5
    assert after["objects"] >= before["objects"] + len(held)
    for task in tasks:
        task.cancel()
    counts = tmp_path / "counts"
    counts.write_text('{"tasks": 1, "objects": 2, "types": {}}\n{"tasks": 3, "objects": 4}\n{"ta')
    found = sample(os.getpid(), counts, 1.5)
    assert (found.seconds, found.tasks, found.objects) == (1.5, 3, 4)
    assert found.rss_kib > 10_000
    assert found.descriptors > 2
