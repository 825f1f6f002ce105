"""What an error is, alone and in groups."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable

import pytest

from bus import (
    ConcurrencyError,
    InvalidMessage,
    OutcomeUnknown,
    Reject,
    Retry,
    RetryPolicy,
    StoreUnavailable,
)
from bus.common.exceptions import conflict, judged, outage, own, reported
from bus.common.fingerprint import failure_of, reason_of
from bus.declare.policies import checked, policy_for


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    """A group within a group."""
    return ExceptionGroup("outer", [ExceptionGroup("inner", list(errors))])


def test_a_group_of_one_kind_is_told_as_that() -> None:
    first = ValueError("a")
    assert reported(group(first, ValueError("b"))) is first
    mixed = group(ValueError("a"), KeyError("b"))
    assert reported(mixed) is mixed
    assert reason_of(mixed) == "ValueError: a; KeyError: 'b'"
    assert failure_of(mixed, "Paid", "q").reason == "ValueError: a; KeyError: 'b'"


@pytest.mark.parametrize(
    ("errors", "decides"),
    [
        ([Reject("never"), ValueError("x"), StoreUnavailable("away")], StoreUnavailable),
        ([Reject("never"), OutcomeUnknown("?")], OutcomeUnknown),
        ([Reject("never"), ValueError("x"), Retry(1)], Retry),
        ([InvalidMessage("no"), ValueError("x")], ValueError),
        ([Reject("never")], Reject),
    ],
)
def test_of_a_mixed_group_the_error_decides_that_loses_least(
    errors: list[Exception], decides: type[Exception]
) -> None:
    assert type(judged(group(*errors))) is decides
    assert outage(group(*errors)) == (decides in (StoreUnavailable, OutcomeUnknown))


def test_only_a_group_of_conflicts_alone_is_one() -> None:
    assert conflict(group(ConcurrencyError("a"), ConcurrencyError("b")))
    assert not conflict(group(ConcurrencyError("a"), ValueError("b")))


def test_a_group_has_the_policy_of_its_kind_and_a_mixed_one_the_most_patient() -> None:
    few, many = RetryPolicy(tries=1, delays=()), RetryPolicy(tries=9)
    policies = checked({KeyError: few, ValueError: many}, "here")
    assert policy_for(group(KeyError("x")), policies) is few
    assert policy_for(group(KeyError("x"), ValueError("y")), policies) is many
    assert policy_for(SystemExit(), policies) is policies[Exception]


def raised(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def interrupt() -> None:
    raise KeyboardInterrupt


def interrupt_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        gc.isenabled()


def exit_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        gc.isenabled()


def leave(*_: object) -> None:
    sys.exit(0)


def test_what_code_raises_is_its_own_and_what_a_signal_raises_is_not() -> None:
    assert own(raised(sys.exit))
    assert own(raised(interrupt))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminating = signal.signal(signal.SIGTERM, leave)
    try:
        assert not own(raised(interrupt_by_signal))
        assert not own(raised(exit_by_signal))
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminating)


def test_a_coroutine_that_is_closed_is_told_from_one_that_raises() -> None:
    seen: list[bool] = []

    async def waits(raises: bool) -> None:
        try:
            if raises:
                raise GeneratorExit
            await asyncio.sleep(0)
        except GeneratorExit as error:
            seen.append(own(error))
            raise

    waiting = waits(raises=False)
    waiting.send(None)
    waiting.close()
    raised(lambda: waits(raises=True).send(None))
    assert seen == [False, True]


async def test_a_cancellation_is_ones_own_unless_somebody_asked_for_it() -> None:
    assert own(asyncio.CancelledError())

    async def cancelled() -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            return own(error)
        return True

    task = asyncio.create_task(cancelled())
    await asyncio.sleep(0)
    task.cancel()
    assert not await task
