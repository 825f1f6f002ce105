"""What an error is, also if it is a group of errors.

A handler's task group raises its errors as a group; what counts is the errors within.
"""

import asyncio
import dis
import signal
import traceback
from collections.abc import Iterator
from types import CodeType
from typing import Any

from bus.common import clock
from bus.errors import (
    ConcurrencyError,
    MessageError,
    NoHandler,
    NotCaughtUp,
    OutcomeUnknown,
    Retry,
    Unavailable,
)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yields the errors of a group, and of groups within it; the error itself if it is no group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def judged(error: BaseException) -> BaseException:
    """Returns the one error that decides what follows.

    In a group of one kind it is the first. In a mixed group, the one whose handling loses least: an
    outage, else a `Retry`, else an error that another try may fix.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    return min(leaves(error), key=_finality)


def reported(error: BaseException) -> BaseException:
    """Returns what to store and log: the first error of a group of one kind, else `error`."""
    if isinstance(error, BaseExceptionGroup) and len({type(leaf) for leaf in leaves(error)}) == 1:
        return next(leaves(error))
    return error


def outage(error: BaseException) -> bool:
    """Returns whether a service is away: not the message's fault, so it does not count as a try.

    A handler's own request that was not answered (it has an id) does count: otherwise a handler
    that never gets an answer would ask for ever.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(map(outage, error.exceptions))
    if isinstance(error, OutcomeUnknown):
        return not error.id
    return isinstance(error, Unavailable) and not isinstance(error, NotCaughtUp)


def conflict(error: BaseException) -> bool:
    """Returns whether it consists of conflicts with other writers only."""
    return all(isinstance(leaf, ConcurrencyError) for leaf in leaves(error))


def own(error: BaseException) -> bool:
    """Returns whether the code itself raised it, and no one from outside who ends the task or the
    process: by a cancellation, a signal, or by closing the coroutine."""
    if isinstance(error, Exception):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(map(own, error.exceptions))
    if isinstance(error, asyncio.CancelledError):
        return not clock.is_cancelled()
    if isinstance(error, KeyboardInterrupt | GeneratorExit) and not _raised(error):
        return False
    return not _came_by_signal(error)


def failed(error: BaseException) -> bool:
    """Returns whether the code itself raised it, and not to end the process."""
    return own(error) and not isinstance(error, SystemExit | KeyboardInterrupt)


def _raised(error: BaseException) -> bool:
    """Returns whether a `raise` did it: Python interrupts and closes at any instruction."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _came_by_signal(error: BaseException) -> bool:
    """Returns whether a signal handler raised it, in the middle of other code."""
    codes = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _code_of(handler: Any) -> CodeType | None:
    handler = getattr(handler, "func", handler)  # a partial's
    handler = getattr(handler, "__func__", handler)  # a method's
    return getattr(handler, "__code__", None)


def _finality(error: BaseException) -> int:
    if outage(error):
        return 0
    if isinstance(error, Retry):
        return 1
    return 3 if isinstance(error, MessageError | NoHandler) else 2
