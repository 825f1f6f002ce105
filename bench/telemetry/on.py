"""Traces and metrics of OpenTelemetry, exported to nowhere."""

import os
from collections.abc import Sequence

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from bench.telemetry.work import run
from bus.telemetry.switch import instrument_all


class NoSpans(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class NoMetrics(MetricExporter):
    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 0, **kwargs: object
    ) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **kwargs: object) -> None:
        pass


if __name__ == "__main__":
    os.environ["BUS_TRACE_SHARE"] = "0.01"
    traces = TracerProvider()
    traces.add_span_processor(BatchSpanProcessor(NoSpans()))
    read = PeriodicExportingMetricReader(NoMetrics(), export_interval_millis=1000)
    instrument_all(traces, MeterProvider([read]))
    run()
