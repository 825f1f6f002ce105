"""Tracer: who hears that something begins, so that a span can be open meanwhile.

Listeners hear of what is over. A tracer gives messages the context of their trace besides: it is
in their headers, `traceparent` and `tracestate`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol

from bus.common import clock
from bus.messages import Envelope
from bus.observe.signals import HandlerRun
from bus.transports.base import EPOCH, Delivery, Frame

Ended = Callable[[BaseException | None], None]
"""Called when what was begun is over, with what it raised, if anything."""

current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery", default=None)
"""What a worker's handler handles at present, as it came; None elsewhere."""


LATE = 300.0
"""Seconds. What is older than that when it is handled is part no more of what took place then."""

What = Literal[
    "send", "receive", "settle", "project", "relay", "store", "rebuild", "sweep", "audit"
]


class Batch(NamedTuple):
    """Something that was done for several messages at once, and has just ended.

    `name` is the exchange, the queue, the projection or the service; `began` is Unix time, in
    seconds. `contexts` are the `traceparent`s of what is in it, sampled ones only, with `names`
    (routing keys, or names of messages) beside them. `age`: how old its oldest message is, in
    seconds. `error` is the type of what it raised. `late` says of each context whether its message
    is old, or was put off, sent again or left over: it belongs to its own trace no more.
    """

    what: What
    name: str
    began: float
    contexts: Sequence[str]
    messages: int
    names: Sequence[str] = ()
    age: float = 0.0
    error: str = ""
    late: Sequence[bool] = ()


class Tracer(Protocol):
    """Hears that something begins. There is one for a bus: `Signals.tracer`.

    It should raise nothing; what it raises is treated as a listener's. `share` is the part of the
    runs that begin a trace, of those to which no context came. `ambient` returns something true
    where a context is there already, of an HTTP request say; it is called for each run. Both are
    read once, as it begins.
    """

    share: float

    @property
    def ambient(self) -> Callable[[], object]: ...

    def begin(
        self,
        kind: type[HandlerRun],
        envelope: Envelope,
        handler: str,
        attempt: int,
        came: Delivery | None,
    ) -> tuple[Envelope, Ended] | None:
        """Returns the envelope to go on with, and what to call at the end; None for no span.

        `came` is what a worker handles. A run without any context is begun only if the `share` says
        so. An event without a `handler` is one that is published outside of handlers.
        """
        ...

    def sending(self, frame: Frame) -> tuple[Frame, Ended] | None:
        """Returns the frame to send, and what to call once it is sent; None for no span."""
        ...

    def batch(self, what: Batch) -> None:
        """Takes what was done for several messages, once it is over."""
        ...


def batch_of(
    what: What, name: str, began: float, frames: Sequence[Frame], error: str, *, late: bool
) -> Batch | None:
    """Returns a batch of these messages, `late` ones perhaps; None if none is of a trace."""
    with_one = [frame for frame in frames if "traceparent" in frame.headers]
    sampled = [frame for frame in with_one if context_of(frame.headers)]
    if not sampled:
        return None
    now = clock.now()
    oldest = min(frames, key=_made)
    return Batch(
        what,
        name,
        began,
        contexts=[context_of(frame.headers) for frame in sampled],
        messages=len(frames),
        names=[frame.topic if what == "send" else frame.name for frame in sampled],
        age=oldest.age(now),
        error=error,
        late=[late or not frame.address or frame.age(now) > LATE for frame in sampled],
    )


def _made(frame: Frame) -> datetime:
    """Returns when it was made; now, or later, if it does not say when."""
    return _UNKNOWN if frame.time == EPOCH else frame.time


_UNKNOWN = datetime.max.replace(tzinfo=UTC)


def context_of(headers: Mapping[str, str | int]) -> str:
    """Returns the `traceparent` among a message's headers, if it is sampled; "" if not."""
    context = headers.get("traceparent")
    is_sampled = isinstance(context, str) and context[-1:] in _ODD
    return context if is_sampled and isinstance(context, str) else ""


_ODD = frozenset("13579bdf")
"""Last digits of the flags of a `traceparent` that say: sampled."""
