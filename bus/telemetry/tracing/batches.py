"""Batches: spans of what was done for several messages at once, made once it is over.

A batch is one span with links to what is in it. Besides, each trace that is in it has a span of its
own, so that it is whole. If it is of one trace alone, the span of the batch is that one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from bus.observe.tracer import Batch
from bus.telemetry.tracing import contexts
from bus.telemetry.tracing.attributes import Attributes, Conventions, counted, destination

MOST_LINKS = 128
"""As many as OpenTelemetry keeps."""

_KINDS = {
    "send": SpanKind.CLIENT,
    "receive": SpanKind.CLIENT,
    "settle": SpanKind.CLIENT,
    "project": SpanKind.CONSUMER,
}
_COUNTS = {"rebuild": "bus.commits", "sweep": "bus.missing", "audit": "bus.documents"}


class Part(NamedTuple):
    """A message of a batch that is of a trace; `name` as in the batch."""

    context: SpanContext
    name: str
    is_late: bool


class BatchSpans:
    """Makes the spans of batches."""

    def __init__(self, tracer: Tracer, conventions: Conventions) -> None:
        self._tracer = tracer
        self._conventions = conventions

    def make(self, batch: Batch) -> None:
        """Makes the spans of a batch that has just ended; none of one of which nothing is
        sampled."""
        if batch.what in _COUNTS:
            self._span(batch, f"{batch.what} {batch.name}", {_COUNTS[batch.what]: batch.messages})
            return
        parts = _parts(batch)
        found = [part.context for part in parts]
        if not found:
            return
        if batch.what == "relay":
            sent: Attributes = {"bus.commits": batch.messages}
            self._span(batch, f"relay {batch.name}", sent, links=found)
        elif batch.what == "store":
            commits: Attributes = {"bus.commits": batch.messages}
            self._span(batch, f"store {batch.name}", commits, parent=found[0])
        else:
            self._of_messages(batch, parts)

    def _of_messages(self, batch: Batch, parts: Sequence[Part]) -> None:
        kind, topics = _KINDS[batch.what], tuple(dict.fromkeys(batch.names))
        name, attributes = self._name(batch, topics), self._attributes(batch, topics)
        if len(parts) == 1 and not parts[0].is_late:
            self._span(batch, name, attributes, kind=kind, parent=parts[0].context)
            return
        links = [part.context for part in parts]
        span = self._span(batch, name, attributes, kind=kind, links=links)
        if batch.what in ("send", "project"):
            whole = span.get_span_context()
            for part in parts:
                if not part.is_late:
                    self._part(batch, part, [whole] if whole.trace_flags.sampled else [])

    def _part(self, batch: Batch, part: Part, links: Sequence[SpanContext]) -> None:
        """Makes the span that a trace has of its own."""
        topics = (part.name,)
        alone = batch._replace(messages=1, names=topics)
        kind = SpanKind.INTERNAL if batch.what == "project" else _KINDS[batch.what]
        name, attributes = self._name(alone, topics), self._attributes(alone, topics)
        self._span(alone, name, attributes, kind=kind, parent=part.context, links=links)

    def _name(self, batch: Batch, topics: Sequence[str]) -> str:
        if batch.what == "send":
            named = {destination(batch.name, topic) for topic in topics}
            return f"send {named.pop() if len(named) == 1 else batch.name}"
        return f"{'ack' if batch.what == 'settle' else batch.what} {batch.name}"

    def _attributes(self, batch: Batch, topics: Sequence[str]) -> Attributes:
        conventions, count = self._conventions, counted(batch.messages)
        if batch.what == "send":
            return conventions.of_events(batch.name, topics, batch.messages)
        age = round(batch.age, 3)
        if batch.what == "receive":
            received = conventions.of("receive", "receive", batch.name)
            return {**received, **count, "bus.queue.seconds": age}
        if batch.what == "settle":
            return {**conventions.of("settle", "ack", batch.name), **count}
        return {"bus.events": batch.messages, **count, "bus.visible.seconds": age}

    def _span(
        self,
        batch: Batch,
        name: str,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: SpanContext | None = None,
        links: Sequence[SpanContext] = (),
    ) -> Span:
        span = self._tracer.start_span(
            name,
            context=beneath(parent),
            kind=kind,
            attributes=attributes,
            links=[Link(context) for context in links[:MOST_LINKS]],
            start_time=int(batch.began * 1e9),
        )
        if batch.error:
            span.set_attribute("error.type", batch.error)
            span.set_status(Status(StatusCode.ERROR))
        span.end()
        return span


def _parts(batch: Batch) -> list[Part]:
    """Returns what is of a trace; what only looked like a context is passed over."""
    count = len(batch.contexts)
    names, late = batch.names or [""] * count, batch.late or [False] * count
    found = zip(map(contexts.parsed, batch.contexts), names, late, strict=True)
    return [Part(context, name, is_late) for context, name, is_late in found if context]


def beneath(parent: SpanContext | None) -> Context:
    """Returns a context of its own, beneath a span if one is given."""
    return Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
