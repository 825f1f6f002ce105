"""Pauses between tries: how long they are, and when they begin anew."""

import math
from itertools import islice

import pytest

from bus.common import clock
from bus.common.backoff import Backoff, doubled, pauses


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock.source, "jittered", lambda seconds: seconds)


@pytest.mark.usefixtures("steady")
def test_pauses_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(0.1, 1.0)
    assert list(islice(backoff, 6)) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert next(backoff) == 0.1


def test_a_pause_is_half_as_long_again_at_most_and_one_of_those_that_are_bounded_no_longer() -> (
    None
):
    assert all(0.5 <= pause <= 1.5 for pause in islice(Backoff(1.0, 1.0), 100))
    assert len(set(islice(Backoff(1.0, 1.0), 100))) > 50
    assert all(0.5 <= pause <= 1.0 for pause in islice(pauses(1.0, 1.0), 100))


def test_a_pause_is_doubled_so_often() -> None:
    assert doubled(0.5, 10.0) == 1.0
    assert doubled(0.5, 10.0, 3) == 4.0
    assert doubled(8.0, 10.0) == 10.0
    assert doubled(1.0, math.inf, 10) == 1024.0
    assert doubled(1.0, math.inf, 0) == 1.0
