"""Spans: the bus's tracer, over OpenTelemetry's API. Which span begins where, and what is its
parent.

A message that came without a context has none of its own here either: who sent it has decided so.
"""

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import NamedTuple

from opentelemetry import context as ambient
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from bus.common import clock
from bus.common.exceptions import judged, reported
from bus.common.fingerprint import reason_of
from bus.errors import Retry
from bus.messages import Envelope
from bus.observe.log import current_trace
from bus.observe.signals import CommandHandled, Conflicted, HandlerRun, QueryAnswered
from bus.observe.tracer import LATE, Batch, Ended
from bus.telemetry.tracing import contexts
from bus.telemetry.tracing.attributes import Attributes, Conventions, age_of
from bus.telemetry.tracing.batches import BatchSpans, beneath
from bus.telemetry.tracing.quiet import aloud, is_suppressed
from bus.transports.base import Delivery, Frame

_LOOK: Callable[[], object] = getattr(
    getattr(getattr(ambient, "_RUNTIME_CONTEXT", None), "_current_context", None),
    "get",
    ambient.get_current,
)
"""What `get_current` returns, without two calls: each run of a handler asks for it."""


class Origin(NamedTuple):
    """Where something begins: in a span (`of`), if it is not None. A new span is begun in
    `context`."""

    of: SpanContext | None
    context: Context
    is_given: bool = False

    @property
    def is_left_out(self) -> bool:
        """Whether it is of a trace that is not sampled."""
        return self.of is not None and not self.of.trace_flags.sampled


class SpanTracer:
    """Makes spans of what begins and ends in a bus, all `openings` of it, for a `provider`."""

    stop: Callable[[], None]
    """Ends what it listens to."""

    def __init__(
        self, tracer: Tracer, conventions: Conventions, share: float, provider: object
    ) -> None:
        self.share = share
        self.ambient: Callable[[], object] = _LOOK
        self.provider = provider
        self.openings = 0
        self._tracer = tracer
        self._conventions = conventions
        self._batches = BatchSpans(tracer, conventions)

    def begin(
        self,
        kind: type[HandlerRun],
        envelope: Envelope,
        handler: str,
        attempt: int,
        came: Delivery | None,
    ) -> tuple[Envelope, Ended] | None:
        """As `Tracer.begin`."""
        if came is not None and came.frame.id == envelope.id:
            return self._process(envelope, handler, attempt, came)
        origin = _origin(envelope.headers)
        if origin is None:
            return None
        is_query, is_command = kind is QueryAnswered, kind is CommandHandled
        may_begin = not is_query and came is None
        if origin.of is None and not (may_begin and self._begins(envelope, decided=is_command)):
            return None
        if origin.is_left_out:
            return None if origin.is_given or is_query else _passed_on(envelope, origin)
        what = "query" if is_query else "command" if is_command else "publish"
        attributes: Attributes = {
            "bus.message": envelope.name,
            "messaging.message.id": envelope.id,
            "messaging.message.conversation_id": envelope.correlation_id,
            "bus.outcome": "done",
        }
        if handler:
            attributes["bus.handler"] = handler
        span = self._tracer.start_span(
            f"{what} {envelope.name}", context=origin.context, attributes=attributes
        )
        return _with_context(envelope, span), _Running(span, origin.context)

    def _process(
        self, envelope: Envelope, handler: str, attempt: int, came: Delivery
    ) -> tuple[Envelope, Ended] | None:
        origin = contexts.read(envelope.headers)
        is_ours = "schema" in came.frame.headers
        if origin is None and (is_ours or not self._begins(envelope, decided=True)):
            return None
        if origin is not None and not origin.trace_flags.sampled:
            return None
        is_late = attempt > 1 or not came.frame.address or age_of(came.frame) > LATE
        parent = beneath(None if is_late else origin)
        span = self._tracer.start_span(
            f"process {came.queue}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes={
                **self._conventions.of_process(came, handler, attempt),
                "bus.outcome": "done",
            },
            links=[Link(origin)] if is_late and origin else [],
        )
        return _with_context(envelope, span), _Running(span, parent, stays=True)

    def sending(self, frame: Frame) -> tuple[Frame, Ended] | None:
        """As `Tracer.sending`."""
        origin = _origin(frame.headers)
        if origin is None or (origin.of is None and not self._chosen()):
            return None
        if origin.of is not None and origin.is_left_out:
            if origin.is_given:
                return None
            return frame._replace(headers=contexts.added(frame.headers, origin.of)), _nothing
        attributes = self._conventions.of_command(frame)
        span = self._tracer.start_span(
            f"send {attributes['messaging.destination.name']}",
            context=origin.context,
            kind=SpanKind.PRODUCER,
            attributes=attributes,
        )
        headers = contexts.added(frame.headers, span.get_span_context())
        return frame._replace(headers=headers), _Running(span, origin.context)

    def batch(self, what: Batch) -> None:
        """As `Tracer.batch`."""
        self._batches.make(what)

    def conflicted(self, signal: Conflicted) -> None:
        """Notes in the running span that another writer was first."""
        span = get_current_span()
        span.add_event("conflict", {"bus.message": signal.message})
        span.set_attribute("bus.conflicts", signal.conflicts)

    def _begins(self, envelope: Envelope, *, decided: bool) -> bool:
        """Returns whether a trace begins here. It may be `decided` already, unless something looked
        like a context."""
        seen = ambient.get_current() or "traceparent" in envelope.headers
        return (decided and not seen) or self._chosen()

    def _chosen(self) -> bool:
        return self.share >= 1 or clock.source.fraction() < self.share


class _Running:
    """A span that is the current one until it is called with what ended it."""

    __slots__ = ("_span", "_stays", "_token", "_trace")

    def __init__(self, span: Span, context: Context, *, stays: bool = False) -> None:
        """`stays`: lines of the log name it until the next one begins, as those of a worker do."""
        self._span = span
        self._stays = stays
        self._token = ambient.attach(set_span_in_context(span, context))
        text = contexts.written(span.get_span_context())
        self._trace: Token[str] = current_trace.set(text)

    def __call__(self, error: BaseException | None) -> None:
        ambient.detach(self._token)
        try:
            if not self._stays:
                current_trace.reset(self._trace)
        except ValueError:
            pass  # a coroutine that is closed from elsewhere ends in the context of who closes it
        finally:
            _end(self._span, error)


def _end(span: Span, error: BaseException | None) -> None:
    """Ends a span. It began as if all went well: to say so only now would cost a third more."""
    cause = error and judged(error)
    if isinstance(cause, Retry):
        span.add_event("put off", {"bus.delay": cause.delay})
        span.set_attribute("bus.outcome", "put_off")
    elif error is not None:
        _fail(span, reported(error))
    span.end()


def _fail(span: Span, error: BaseException) -> None:
    kind, reason = type(error).__name__, reason_of(error)[:500]
    span.set_attributes({"bus.outcome": "failed", "error.type": kind})
    span.add_event("exception", {"exception.type": kind, "exception.message": reason})
    span.set_status(Status(StatusCode.ERROR, kind))


def _origin(headers: Mapping[str, str | int]) -> Origin | None:
    """Returns the context that was given in the headers, else the ambient one; None if nobody is to
    make spans here."""
    current = ambient.get_current()
    if is_suppressed(current):
        return None
    around = aloud(current)
    if (given := contexts.read(headers)) is not None:
        return Origin(given, beneath(given), is_given=True)
    context = get_current_span(around).get_span_context()
    return Origin(context if context.is_valid else None, around)


def _with_context(envelope: Envelope, span: Span) -> Envelope:
    headers = contexts.added(envelope.headers, span.get_span_context())
    return envelope._replace(headers=headers)


def _passed_on(envelope: Envelope, origin: Origin) -> tuple[Envelope, Ended] | None:
    """Hands a context on that is not sampled, so that nobody begins a trace further on."""
    if origin.of is None:
        return None
    return envelope._replace(headers=contexts.added(envelope.headers, origin.of)), _nothing


def _nothing(_error: BaseException | None) -> None:
    pass
