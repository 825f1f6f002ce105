"""Spans that a test has had made, in memory; no provider of the whole process is touched."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Span, SpanContext, Tracer

from bus import Bus
from bus.telemetry import instrument


class Spans:
    """What a provider of its own has exported."""

    def __init__(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        self.provider = provider
        self._exporter = exporter

    def of(self, bus: Bus) -> Bus:
        """Has the bus tell its spans; returns it."""
        instrument(bus, tracer_provider=self.provider)
        return bus

    @property
    def tracer(self) -> Tracer:
        """What an application makes its own spans with."""
        return self.provider.get_tracer("test")

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        found = self.named(name)
        assert len(found) == 1, f"{len(found)} of {name!r} among {[span.name for span in self.all]}"
        return found[0]

    def clear(self) -> None:
        self._exporter.clear()


@contextmanager
def recorded(sampler: Sampler | None = None) -> Iterator[Spans]:
    """Gives spans a place while a test runs."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield Spans(provider, exporter)
    finally:
        provider.shutdown()


def context_of(span: ReadableSpan | Span) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def is_child(span: ReadableSpan, of: ReadableSpan | Span) -> bool:
    """Whether it is a child of that very span."""
    parent, above = span.parent, context_of(of)
    return parent is not None and (parent.trace_id, parent.span_id) == (
        above.trace_id,
        above.span_id,
    )


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    """The traces and spans that it has links to."""
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def place(span: ReadableSpan | Span) -> tuple[int, int]:
    """A span's trace and its own id."""
    context = context_of(span)
    return context.trace_id, context.span_id
