"""Traces: spans of OpenTelemetry, made of what begins and ends in a bus.

attaching     has a bus tell its spans to a provider
spans         the tracer: which span begins where, and what its parent is
batches       spans of what was done for several messages at once
attributes    what is said of a span, by the semantic conventions
contexts      a trace's context in the headers of a message
quiet         work of the bus's own, of which nobody makes spans
"""

from bus.telemetry.tracing.attaching import attach as attach
