"""Contexts: a trace's context in the headers of a message, as the W3C has it.

What comes in is anybody's, so it is believed only in the standard's form.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from bus.data.limits import MAX_COUNT, MAX_HEADERS, OWN_BYTES, OWN_COUNT, size_of

Value = TypeVar("Value", str, str | int)

_FORM = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
MOST_STATE = 512
"""Characters of a `tracestate` that is handed on."""


def read(headers: Mapping[str, str | int]) -> SpanContext | None:
    """Returns the context that a message came with; None for none, or for something else."""
    context = parsed(headers.get("traceparent"))
    state = headers.get("tracestate")
    if context is None or not isinstance(state, str) or len(state) > MOST_STATE:
        return context
    return _context(context, TraceState.from_header([state]))


def parsed(text: str | int | None) -> SpanContext | None:
    """Returns the context that a `traceparent` holds; None if it is none."""
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    trace, span, flags = (int(part, 16) for part in found.groups())
    return SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(flags))


def written(context: SpanContext) -> str:
    """Returns a context as a `traceparent`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def added(headers: Mapping[str, Value], context: SpanContext) -> dict[str, Value]:
    """Returns the headers of a message of this context; as they were if it would make them longer
    than a message may have them."""
    if not headers and not context.trace_state:
        return {"traceparent": written(context)}  # the usual case, in a tenth of the time
    plain = {key: value for key, value in headers.items() if key != "tracestate"}
    short: dict[str, Value] = {**plain, "traceparent": written(context)}
    state = context.trace_state.to_header() if context.trace_state else ""
    long: dict[str, Value] = {**short, "tracestate": state} if state else short
    return next((some for some in (long, short) if _has_room(some)), dict(headers))


def _has_room(headers: Mapping[str, str | int]) -> bool:
    size = sum(size_of(key) + size_of(str(value)) + 8 for key, value in headers.items())
    return len(headers) <= MAX_COUNT - OWN_COUNT and size <= MAX_HEADERS - OWN_BYTES


def _context(of: SpanContext, state: TraceState) -> SpanContext:
    return SpanContext(of.trace_id, of.span_id, of.is_remote, of.trace_flags, state)
