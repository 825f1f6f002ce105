"""Prometheus: the metrics as text, by prometheus-client. Imported when somebody asks for them."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from bus.observe.health_server import SHARED
from bus.telemetry.metrics.catalogue import CATALOGUE, Metric
from bus.telemetry.metrics.tally import Distribution, Labels, Reading

FAMILIES = frozenset(metric.family for metric in CATALOGUE)

Readings = Callable[[], Iterable[tuple[str, Reading]]]
"""Returns what each service of this process has counted, by its name."""


class Families(Collector):
    """The metrics of services, as prometheus-client collects them."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def describe(self) -> Iterable[Family]:
        """Returns none, so that registering it asks for no values."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Yields those of which there is a value, in the catalogue's order."""
        readings = list(self._readings())
        for metric in CATALOGUE:
            family = _family(metric, readings)
            if family.samples:
                yield family


class Everything(Collector):
    """The metrics of services, and those that the process itself registers."""

    def __init__(self, readings: Readings) -> None:
        self._ours = Families(readings)

    def collect(self) -> Iterator[Family]:
        """Yields them, ours once, should they be registered, too."""
        yield from self._ours.collect()
        for family in _theirs():
            if family.name not in FAMILIES:
                yield family


def text(readings: Readings, accept: str) -> tuple[str, bytes]:
    """Returns a content type that is accepted, and all metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Everything(readings))
    encode, content = choose_encoder(accept)
    return content, encode(registry)


def _theirs() -> Iterable[Family]:
    """Returns what else this process registers; with PROMETHEUS_MULTIPROC_DIR, that of all."""
    if not os.path.isdir(os.environ.get(SHARED, "")):
        return REGISTRY.collect()
    from prometheus_client.multiprocess import MultiProcessCollector

    of_all: Collector = MultiProcessCollector(CollectorRegistry())  # type: ignore[no-untyped-call]
    return of_all.collect()


def _family(metric: Metric, readings: Iterable[tuple[str, Reading]]) -> Family:
    names = ("service", *metric.labels)
    if metric.kind == "histogram":
        return _histogram(metric, names, readings)
    family: CounterMetricFamily | GaugeMetricFamily = (
        CounterMetricFamily(metric.family, metric.help, labels=names)
        if metric.kind == "counter"
        else GaugeMetricFamily(metric.family, metric.help, labels=names)
    )
    for service, reading in readings:
        values = reading.counters if metric.kind == "counter" else reading.gauges
        for labels, value in sorted(values.get(metric.name, {}).items()):
            family.add_metric((service, *labels), value)
    return family


def _histogram(
    metric: Metric, names: Labels, readings: Iterable[tuple[str, Reading]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.family, metric.help, labels=names)
    for service, reading in readings:
        for labels, found in sorted(reading.histograms.get(metric.name, {}).items()):
            family.add_metric((service, *labels), _buckets(metric, found), found.total)
    return family


def _buckets(metric: Metric, found: Distribution) -> list[tuple[str, float]]:
    """Returns how many values are not above each bound."""
    bounds = [*map(str, metric.buckets), "+Inf"]
    return list(zip(bounds, map(float, accumulate(found.counts)), strict=True))
