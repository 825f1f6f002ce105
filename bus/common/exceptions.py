"""Judging: what an error is, where several came as one.

A task group of a handler's raises its errors as a group; what counts is what they are.
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
    """The errors of a group, and of groups within it; one that is no group is its own."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


def judged(error: BaseException) -> BaseException:
    """The one error by which it is decided what follows.

    Of a group of one kind it is the first. Of a mixed one it is what loses least if it is believed:
    an outage, else a `Retry`, else an error that another try may mend.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    return min(leaves(error), key=_finality)


def told(error: BaseException) -> BaseException:
    """What is to be kept and told of an error: of a group of one kind the first, else itself."""
    if isinstance(error, BaseExceptionGroup) and len({type(one) for one in leaves(error)}) == 1:
        return next(leaves(error))
    return error


def outage(error: BaseException) -> bool:
    """Whether a service is away: not the message's fault, so it does not count as a try.

    A request of the handler's own that nobody answered (it has an id) counts as a try: otherwise a
    handler that never gets an answer would ask for ever.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(map(outage, error.exceptions))
    if isinstance(error, OutcomeUnknown):
        return not error.id
    return isinstance(error, Unavailable) and not isinstance(error, NotCaughtUp)


def conflict(error: BaseException) -> bool:
    """Whether nothing but conflicts with other writers ended it."""
    return all(isinstance(one, ConcurrencyError) for one in leaves(error))


def own(error: BaseException) -> bool:
    """Whether it is its raiser's own, rather than word from outside that the task or the process
    is to end: a cancellation, a signal, a coroutine that is closed."""
    if isinstance(error, Exception):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(map(own, error.exceptions))
    if isinstance(error, asyncio.CancelledError):
        return not clock.is_cancelled()
    if isinstance(error, KeyboardInterrupt | GeneratorExit) and not _raised(error):
        return False
    return not _came_by_signal(error)


def _raised(error: BaseException) -> bool:
    """Whether a `raise` did it: Python itself interrupts and closes wherever the code stands."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _came_by_signal(error: BaseException) -> bool:
    """Whether a handler of signals raised it, in the midst of other code."""
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
