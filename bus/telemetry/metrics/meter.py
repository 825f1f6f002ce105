"""Meter: the metrics through OpenTelemetry's, from the same counts. Imported where a provider is.

How long things took is recorded as it is told, a sample where that is often: each value takes the
SDK some 20 microseconds. All else is only read when the provider collects.
What OpenTelemetry's conventions name themselves comes besides, if the process opts in.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from bus.dispatch.measuring import Sampling
from bus.observe import signals
from bus.observe.listeners import Signals
from bus.observe.log import current_handler
from bus.observe.signals import Signal
from bus.telemetry.metrics.catalogue import CATALOGUE, DURATIONS, METRICS, Metric
from bus.telemetry.metrics.tally import RUNS, Numbers, Reading
from bus.version import __version__

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
SCOPE = "doubledecker"
KEPT = 0.5
"""Seconds for which one reading serves: a collection asks for each metric by itself."""


class Meters:
    """The instruments of one bus at one provider. They say nothing while it is not counted."""

    def __init__(self, service: str, provider: Any, read: Callable[[], Reading]) -> None:
        self.provider = provider
        self._service = service
        self._read = read
        self._reading = Reading({}, {}, {})
        self._read_at = 0.0
        self._counted = False
        meter: Meter = provider.get_meter(SCOPE, __version__, attributes={"service": service})
        self._histograms = {
            metric.name: _histogram(meter, metric.name, metric.help, metric.unit, metric.buckets)
            for metric in CATALOGUE
            if metric.kind == "histogram"
        }
        self._samples: dict[tuple[str, ...], _Sample] = {}
        for metric in CATALOGUE:
            self._observe(meter, metric)
        self._conventions = _Conventions(meter) if _opts_in(os.environ) else None

    def listen(self, to: Signals, system: str) -> list[Callable[[], None]]:
        """Begins to record; returns what ends that. `system` is the broker's kind."""
        self._counted = True
        stops = [to.listen(kind, heard) for kind, heard in self._heard().items()]
        stops += [to.listen(kind, self._ran, sampled=True) for kind in RUNS]
        if self._conventions:
            stops += self._conventions.listen(to, system)
        return [*stops, self._stop]

    def _stop(self) -> None:
        self._counted = False

    def _observe(self, meter: Meter, metric: Metric) -> None:
        observe = [partial(self._values, metric)]
        if metric.kind == "counter":
            meter.create_observable_counter(metric.name, observe, metric.unit, metric.help)
        elif metric.kind == "gauge":
            meter.create_observable_gauge(metric.name, observe, metric.unit, metric.help)

    def _values(self, metric: Metric, _: CallbackOptions) -> Iterable[Observation]:
        if not self._counted:
            return
        if time.monotonic() - self._read_at > KEPT:
            self._reading, self._read_at = self._read(), time.monotonic()
        counters, gauges, _histograms = self._reading
        of: Numbers = counters if metric.kind == "counter" else gauges
        for labels, value in of.get(metric.name, {}).items():
            yield Observation(value, self._labels(metric, labels))

    def _labels(self, metric: Metric, labels: Iterable[str]) -> dict[str, str]:
        return {"service": self._service, **dict(zip(metric.labels, labels, strict=True))}

    def _heard(self) -> dict[type[Signal], Callable[..., None]]:
        record = self._record
        return {
            signals.EventsStored: lambda of: record("bus.store.duration", of.seconds),
            signals.Published: lambda of: record("bus.publish.duration", of.seconds),
            signals.Received: self._received,
            signals.BatchProjected: self._projected,
        }

    def _received(self, of: signals.Received) -> None:
        if of.oldest is not None:
            self._record("bus.queue.delay", of.oldest, of.queue)

    def _ran(self, run: signals.HandlerRun) -> None:
        self._record(RUNS[type(run)][1], run.seconds, run.message, run.outcome)

    def _projected(self, of: signals.BatchProjected) -> None:
        self._record("bus.projection.batch", of.arrived, of.projection)
        self._record("bus.projection.duration", of.seconds, of.projection)
        if of.events:
            self._record("bus.projection.visible", of.oldest, of.projection)

    def _record(self, metric: str, value: float, *labels: str) -> None:
        sample = self._samples.get((metric, *labels))
        if sample is None:
            attributes = self._labels(METRICS[metric], labels)
            sample = self._samples[metric, *labels] = _Sample(self._histograms[metric], attributes)
        sample.record(value)


class _Sample:
    """Records values of one kind: all of them, or a sample where they come often."""

    def __init__(self, histogram: Histogram, attributes: Mapping[str, str]) -> None:
        self._histogram = histogram
        self._attributes = attributes
        self._sampling = Sampling()
        self._came = 0
        self._left = 0
        """How many values are to come before one is recorded."""

    def record(self, value: float) -> None:
        self._came += 1
        self._left -= 1
        if self._left < 0:
            self._histogram.record(value, self._attributes)
            self._left = self._sampling.pause(self._came)


class _Conventions:
    """The metrics that the semantic conventions for messaging name."""

    def __init__(self, meter: Meter) -> None:
        self._took = _histogram(
            meter, "messaging.client.operation.duration", "how long sending took", "s", DURATIONS
        )
        self._processed = _histogram(
            meter, "messaging.process.duration", "how long processing took", "s", DURATIONS
        )
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "messages sent to the broker"
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "messages delivered"
        )
        self._system = ""

    def listen(self, to: Signals, system: str) -> list[Callable[[], None]]:
        self._system = system
        return [
            to.listen(signals.Published, self._published),
            to.listen(signals.Sent, self._sent_one),
            to.listen(signals.Received, self._received),
            to.listen(signals.EventHandled, self._ran, sampled=True),
            to.listen(signals.CommandHandled, self._ran, sampled=True),
        ]

    def _published(self, of: signals.Published) -> None:
        attributes = self._of("send")
        self._took.record(of.seconds, attributes)
        self._sent.add(of.messages - of.failed, attributes)
        if of.failed:
            self._sent.add(of.failed, {**attributes, "error.type": "_OTHER"})

    def _sent_one(self, of: signals.Sent) -> None:
        attributes = self._of("send", of.error)
        self._took.record(of.seconds, attributes)
        self._sent.add(1, attributes)

    def _received(self, of: signals.Received) -> None:
        attributes = {**self._of("receive"), "messaging.destination.name": of.queue}
        self._consumed.add(of.messages, attributes)

    def _ran(self, run: signals.HandlerRun) -> None:
        if queue := current_handler.get():  # else no worker runs it: it is no message
            error = run.error if run.outcome == "failed" else ""  # a Retry is none
            attributes = self._of("process", error)
            self._processed.record(run.seconds, {**attributes, "messaging.destination.name": queue})

    def _of(self, operation: str, error: str = "") -> dict[str, str]:
        attributes = {"messaging.operation.name": operation, "messaging.system": self._system}
        return {**attributes, "error.type": error} if error else attributes


def _histogram(
    meter: Meter, name: str, help: str, unit: str, buckets: Iterable[float]
) -> Histogram:
    return meter.create_histogram(
        name, unit, help, explicit_bucket_boundaries_advisory=list(buckets)
    )


def _opts_in(environment: Mapping[str, str]) -> bool:
    named = {name.strip() for name in environment.get(OPT_IN, "").split(",")}
    return bool(named & {"messaging", "messaging/dup"})
