"""The metrics through OpenTelemetry's meter: the same as for Prometheus."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.metrics.export import Metric as Exported

from bus import Bus, Settings, Worker
from bus.telemetry import instrument, metrics, uninstrument
from bus.telemetry.metrics.catalogue import METRICS
from bus.telemetry.metrics.meter import KEPT, OPT_IN
from tests.service.wallet import Diary, Pay, build
from tests.waiting import until


class Meters:
    """A provider whose metrics are read by the test."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def read(self) -> dict[str, Exported]:
        data = self.reader.get_metrics_data()
        scopes = [
            scope for of in (data.resource_metrics if data else ()) for scope in of.scope_metrics
        ]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def values(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Returns the labels of a metric's values, and the values (of a histogram, how many)."""
        found = self.read().get(name)
        points = found.data.data_points if found else ()
        return [
            (dict(point.attributes or {}), getattr(point, "value", getattr(point, "count", None)))
            for point in points
        ]


@pytest.fixture
def meters() -> Iterator[Meters]:
    meters = Meters()
    yield meters
    meters.provider.shutdown()


@pytest.fixture(autouse=True)
def _unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads anew for each metric."""
    assert KEPT > 0
    monkeypatch.setattr("bus.telemetry.metrics.meter.KEPT", -1.0)


def bank(meters: Meters) -> Bus:
    bus = build(Settings.in_memory(), Diary(), "bank")
    instrument(bus, meter_provider=meters.provider)
    return bus


async def test_counts_are_told_with_the_names_and_labels_of_the_catalogue(meters: Meters) -> None:
    async with bank(meters) as bus, Worker(bus):
        for _ in range(3):
            await bus.execute(Pay(wallet_id="a", amount=1))
        await until(
            lambda: sum(value for _, value in meters.values("bus.settled")) == 6, "all is settled"
        )
        found = meters.values("bus.commands")
        assert all(
            labels.keys() == {"service", *METRICS["bus.commands"].labels} for labels, _ in found
        )
        assert sum(count for labels, count in found if labels["outcome"] == "done") == 3
        exported = meters.read()
        assert exported.keys() <= METRICS.keys()
        assert exported["bus.stored.bytes"].unit == "By"
        assert meters.values("bus.store.duration") == [({"service": "bank"}, 3)]
        (point,) = exported["bus.store.duration"].data.data_points
        assert isinstance(point, HistogramDataPoint)
        assert tuple(point.explicit_bounds) == METRICS["bus.store.duration"].buckets
        assert {labels["queue"] for labels, _ in meters.values("bus.queue.delay")} == {
            "bank.thanking",
            "bank.wallets",
        }


async def test_both_outputs_say_the_same(meters: Meters) -> None:
    bus = bank(meters)
    metrics.page(bus)
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        assert b'bus_stored_commits_total{service="bank"} 1.0' in metrics.page(bus)[1]
        assert meters.values("bus.stored.commits") == [({"service": "bank"}, 1)]


async def test_a_page_that_was_asked_for_first_keeps_nothing_from_a_meter(meters: Meters) -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    async with bus:
        metrics.page(bus)
        instrument(bus, meter_provider=meters.provider)
        await bus.execute(Pay(wallet_id="a", amount=1))
        assert meters.values("bus.stored.commits") == [({"service": "bank"}, 1)]


async def test_what_was_counted_stays_as_a_bus_is_opened_again(
    meters: Meters, capfd: pytest.CaptureFixture[str]
) -> None:
    bus = bank(meters)
    for opening in range(1, 4):
        async with bus:
            await bus.execute(Pay(wallet_id="a", amount=1))
            assert meters.values("bus.stored.commits") == [({"service": "bank"}, opening)]
            assert meters.values("bus.store.duration") == [({"service": "bank"}, opening)]
    assert meters.values("bus.stored.commits") == []
    assert "already" not in capfd.readouterr().err


async def test_two_buses_tell_one_provider_each_for_itself(meters: Meters) -> None:
    one = build(Settings.in_memory(), Diary(), "one")
    two = build(Settings.in_memory(), Diary(), "two")
    for bus in (one, two):
        instrument(bus, meter_provider=meters.provider)
    async with one, two:
        await one.execute(Pay(wallet_id="a", amount=1))
        await two.execute(Pay(wallet_id="a", amount=1))
        data = meters.reader.get_metrics_data()
    assert data
    counts = [
        str((point.attributes or {})["service"])
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if metric.name == "bus.stored.commits"
    ]
    assert sorted(counts) == ["one", "two"]


async def test_a_bus_that_is_not_instrumented_any_more_says_nothing(meters: Meters) -> None:
    async with bank(meters) as bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        uninstrument(bus)
        assert meters.values("bus.stored.commits") == []


async def test_a_handler_that_asks_for_a_later_try_is_no_error(
    meters: Meters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPT_IN, "messaging")
    async with bank(meters) as bus, Worker(bus):
        await bus.execute(Pay(wallet_id="a", amount=1, mood="later"))
        await until(lambda: meters.values("bus.put_off"), "it asks for a later try")
        await until(lambda: meters.values("messaging.process.duration"), "its run is told")
        runs = meters.values("messaging.process.duration")
    assert not [labels for labels, _ in runs if "error.type" in labels]


@pytest.mark.parametrize(
    ("opted", "is_there"), [("", False), ("http", False), ("http, messaging", True)]
)
async def test_the_metrics_of_the_conventions_come_for_who_opts_in(
    meters: Meters, monkeypatch: pytest.MonkeyPatch, opted: str, is_there: bool
) -> None:
    monkeypatch.setenv(OPT_IN, opted)
    async with bank(meters) as bus, Worker(bus):
        for _ in range(3):
            await bus.execute(Pay(wallet_id="a", amount=1))
        await bus.send(Pay(wallet_id="a", amount=1))
        await until(
            lambda: sum(value for _, value in meters.values("bus.settled")) == 9, "all is settled"
        )
        names = {name for name in meters.read() if name.startswith("messaging.")}
        assert bool(names) == is_there
        if is_there:
            assert names == {
                "messaging.client.operation.duration",
                "messaging.client.sent.messages",
                "messaging.client.consumed.messages",
                "messaging.process.duration",
            }
            sent = meters.values("messaging.client.sent.messages")
            assert sum(value for _, value in sent) == 5
            consumed = meters.values("messaging.client.consumed.messages")
            by_queue = {labels["messaging.destination.name"]: value for labels, value in consumed}
            assert by_queue == {"bank.thanking": 4, "bank.wallets": 4, "bank.commands": 1}
