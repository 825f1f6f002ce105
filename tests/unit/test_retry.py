"""What follows a failure: pure decisions, and holding on."""

import asyncio

import pytest

from bus import (
    GIVE_UP,
    ConfigurationError,
    OutcomeUnknown,
    Reject,
    Retry,
    RetryPolicy,
    Router,
    StoreUnavailable,
)
from bus.common.exceptions import outage
from bus.declare.policies import policy_for
from bus.failures.retry import Holding, Step, Stopped, insist, next_step
from bus.transports.topology import DELAYS, rung

POLICY = RetryPolicy(tries=2, pause=1.0, delays=(5, 30))


def test_tries_in_place_come_first_then_the_delays_then_the_end() -> None:
    steps = [next_step(RuntimeError(), attempt, POLICY) for attempt in (1, 2, 3, 4)]
    assert steps[0].pause is not None
    assert 0.5 <= steps[0].pause <= 1.5
    assert steps[1:] == [Step(delay=5), Step(delay=30), Step()]


def test_what_cannot_get_better_is_given_up_at_once() -> None:
    assert next_step(Reject("never"), 1, POLICY) == Step()
    assert next_step(RuntimeError(), 1, GIVE_UP) == Step()


def test_a_handlers_own_delay_counts_whatever_was_tried_before() -> None:
    assert next_step(Retry(delay=7), 99, POLICY) == Step(delay=7)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.1, 1), (1, 1), (2, 5), (31, 120), (3600, 3600), (9999, 3600)]
)
def test_a_delay_is_rounded_up_to_a_rung_of_the_ladder(seconds: float, expected: int) -> None:
    assert rung(seconds) == expected
    assert expected in DELAYS


def test_the_nearest_base_class_decides_which_policy_counts() -> None:
    router = Router("mails", retry={OSError: GIVE_UP, ConnectionError: POLICY})
    assert policy_for(ConnectionResetError(), router.retry) == POLICY
    assert policy_for(FileNotFoundError(), router.retry) == GIVE_UP
    assert policy_for(ValueError(), router.retry) == RetryPolicy()


@pytest.mark.parametrize(
    "wrong", [RetryPolicy(tries=0), RetryPolicy(pause=-1), RetryPolicy(delays=(0,))]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: RetryPolicy) -> None:
    with pytest.raises(ConfigurationError, match=r"Router\('mails'\)"):
        Router("mails", retry=wrong)


async def test_a_step_is_repeated_while_a_service_is_away() -> None:
    tries: list[int] = []

    async def step() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreUnavailable("away")

    await insist(step, Holding("queue"), asyncio.Event())
    assert len(tries) == 3


async def test_whoever_stops_meanwhile_is_not_held_up() -> None:
    stopping = asyncio.Event()

    async def step() -> None:
        stopping.set()
        raise StoreUnavailable("away")

    with pytest.raises(Stopped):
        await insist(step, Holding("queue"), stopping)


def test_a_request_that_nobody_answers_is_no_outage_that_would_be_waited_for() -> None:
    assert outage(OutcomeUnknown("the database did not say"))
    assert not outage(OutcomeUnknown("no answer within 30 s", id="c1"))


async def test_another_error_is_no_reason_to_hold_on() -> None:
    async def step() -> None:
        raise ValueError("no outage")

    with pytest.raises(ValueError, match="no outage"):
        await insist(step, Holding("queue"), asyncio.Event())
