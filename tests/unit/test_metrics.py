"""Metrics: what the signals say is counted once, and shown as Prometheus reads it."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any
from weakref import ref

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)

from bus import Bus, ConfigurationError, Retry, Router, Settings, StoreUnavailable, Worker, signals
from bus.observe.listeners import NoPage, Signals
from bus.telemetry import instrument, metrics, uninstrument
from bus.telemetry.metrics import attached
from bus.telemetry.metrics.catalogue import CATALOGUE, MOST_ERRORS, OTHER
from bus.telemetry.metrics.states import States
from bus.telemetry.metrics.tally import Distribution, Reading, Tally, joined
from tests.scraping import total, values
from tests.service.wallet import Diary, Pay, build
from tests.unit.accounts import Open
from tests.waiting import until

NOT_LABELS = {"id", "message_id", "correlation_id", "stream", "reason", "letter", "group"}


def value(bus: Bus, name: str, **labels: str) -> float:
    """Returns one sample of a bus's page; 0 if there is none."""
    return values(metrics.page(bus)[1], name).get(frozenset(labels.items()), 0.0)


def test_names_are_of_the_bus_and_unlike_each_other() -> None:
    names = [metric.exposed for metric in CATALOGUE]
    assert len(set(names)) == len(names) == len({metric.name for metric in CATALOGUE})
    assert all(name.startswith("bus_") for name in names)


def test_no_label_has_a_value_for_each_thing_that_happens() -> None:
    for metric in CATALOGUE:
        assert not NOT_LABELS & set(metric.labels), metric.name


def test_a_histogram_has_buckets_and_nothing_else_has() -> None:
    for metric in CATALOGUE:
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        assert list(metric.buckets) == sorted(metric.buckets)


async def test_runs_are_counted_exactly_though_few_of_them_are_watched() -> None:
    bus = failing()
    metrics.page(bus)
    async with bus:
        for number in range(10):
            raised = {3: ZeroDivisionError, 4: ZeroDivisionError, 5: Retry}.get(number)
            with pytest.raises(raised) if raised else nullcontext():
                await bus.execute(Open(account_id=f"a{number}"))
    counted = values(metrics.page(bus)[1], "bus_commands_total")
    assert {dict(labels)["outcome"]: count for labels, count in counted.items()} == {
        "done": 7,
        "failed": 2,
        "put_off": 1,
    }


def failing() -> Bus:
    router = Router("some")

    @router.command
    async def open_some(command: Open) -> None:
        if command.account_id == "a5":
            raise Retry(1)
        if command.account_id in ("a3", "a4"):
            raise ZeroDivisionError

    return Bus("bank", routers=[router], settings=Settings.in_memory())


async def test_an_outcome_that_never_came_about_is_0_so_that_its_rate_shows_the_first() -> None:
    bus = failing()
    metrics.page(bus)
    async with bus:
        found = values(metrics.page(bus)[1], "bus_commands_total")
    assert {dict(labels)["outcome"]: count for labels, count in found.items()} == {
        "done": 0,
        "failed": 0,
        "put_off": 0,
    }


async def test_what_was_counted_stays_as_a_bus_is_opened_again() -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    for opening in range(1, 4):
        async with bus:
            await bus.execute(Pay(wallet_id=f"w{opening}", amount=1))
            assert value(bus, "bus_stored_commits_total") == opening
        assert total(metrics.page(bus)[1], "bus_commands_total") == opening


@pytest.mark.real_time
async def test_runs_in_another_event_loop_are_counted_with_those_here() -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)

    async def pay() -> None:
        async with bus:
            await bus.execute(Pay(wallet_id="there", amount=1))

    async with bus:
        await bus.execute(Pay(wallet_id="here", amount=1))
        await asyncio.to_thread(asyncio.run, pay())
        assert total(metrics.page(bus)[1], "bus_commands_total") == 2
        await bus.execute(Pay(wallet_id="here", amount=1))
        assert value(bus, "bus_stored_commits_total") == 3


async def test_a_worker_tells_what_came_and_what_became_of_it(unique: str) -> None:
    bus = build(Settings.in_memory(), Diary(), unique)
    metrics.page(bus)
    async with bus, Worker(bus):
        for _ in range(3):
            await bus.execute(Pay(wallet_id="a", amount=1))
        queue = f"{unique}.wallets"
        await until(
            lambda: value(bus, "bus_settled_total", queue=queue, outcome="done") == 3,
            "each message is settled",
        )
        assert value(bus, "bus_received_total", queue=queue) == 3
        assert value(bus, "bus_projection_events_total", projection="wallets") == 3
        assert value(bus, "bus_projection_batch_sum", projection="wallets") == 3
        assert value(bus, "bus_projection_visible_seconds_count", projection="wallets") >= 1
        assert value(bus, "bus_published_total") == 3


async def test_health_is_what_was_last_answered_and_never_asked_for() -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    async with bus:
        assert values(metrics.page(bus)[1], "bus_health") == {}
        await bus.health()
        assert value(bus, "bus_health", part="database", breaks="ready") == 0
        assert value(bus, "bus_info") == 0  # it has labels
        (info,) = values(metrics.page(bus)[1], "bus_info")
        assert dict(info)["store"] == "memory"


async def test_health_that_nobody_asks_for_any_more_is_not_told_as_if_it_were_so_now() -> None:
    bus = build(Settings.in_memory(facts_every=0.05), Diary(), "bank")
    metrics.page(bus)
    async with bus:
        assert (await bus.health()).ready
        await until(lambda: not values(metrics.page(bus)[1], "bus_health"), "it is old")


@pytest.mark.parametrize("first", [True, False])
async def test_a_bus_that_is_closed_is_let_go(first: bool) -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    if first:
        metrics.page(bus)
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        metrics.page(bus)
        dispatcher = ref(bus.runtime.dispatcher)
    del bus
    gc.collect()
    assert dispatcher() is None


async def test_a_bus_that_could_not_be_opened_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(**options: bool) -> None:
        raise StoreUnavailable("it is away")

    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    monkeypatch.setattr(bus.runtime.event_log, "open", fails)
    with pytest.raises(StoreUnavailable):
        await bus.__aenter__()
    assert not attached._of(bus.runtime.signals)._tally._counting


async def test_who_is_not_instrumented_any_more_answers_nothing_and_counts_nothing_twice() -> None:
    bus = build(Settings.in_memory(health_port=9), Diary(), "bank")
    async with bus:
        pages = bus.runtime.signals.pages
        await bus.execute(Pay(wallet_id="a", amount=1))
        uninstrument(bus)
        assert pages == {}
        instrument(bus)
        _, body = await pages["/metrics"]("")
        assert total(body, "bus_commands_total") == 1


async def test_a_page_is_openmetrics_for_who_accepts_that(unique: str) -> None:
    bus = build(Settings.in_memory(), Diary(), unique)
    metrics.page(bus)
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
    content, body = metrics.page(bus, "application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert content.startswith("application/openmetrics-text")
    read = read_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    families = {family.name: family for family in read}
    assert families["bus_commands"].type == "counter"
    assert families["bus_command_duration_seconds"].type == "histogram"
    assert metrics.page(bus)[0].startswith("text/plain")


async def test_a_page_has_what_else_the_process_registers_and_ours_once(unique: str) -> None:
    bus = build(Settings.in_memory(), Diary(), unique)
    own = Gauge("prices_known", "of a test")
    own.set(3)
    collector = metrics.collector(bus)
    REGISTRY.register(collector)
    try:
        async with bus:
            await bus.execute(Pay(wallet_id="a", amount=1))
            body = metrics.page(bus)[1]
    finally:
        REGISTRY.unregister(own)
        REGISTRY.unregister(collector)
    assert b"prices_known 3.0" in body
    assert body.count(b"bus_stored_commits_total{") == 1


async def test_a_registry_of_the_applications_own_shows_ours(unique: str) -> None:
    bus, registry = build(Settings.in_memory(), Diary(), unique), CollectorRegistry()
    registry.register(metrics.collector(bus))
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
    assert b"bus_stored_commits_total" in generate_latest(registry)


async def test_the_page_names_the_extra_that_it_lacks(
    unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "find_spec", lambda name: None)
    bus = build(Settings.in_memory(health_port=9), Diary(), unique)
    async with bus:
        with pytest.raises(NoPage, match=r"doubledecker\[prometheus\]"):
            await bus.runtime.signals.pages["/metrics"]("")
        with pytest.raises(ConfigurationError, match=r"doubledecker\[prometheus\]"):
            metrics.page(bus)
        assert signals.Published not in bus.runtime.signals.wanted  # nobody could see it


async def test_nothing_is_counted_where_telemetry_is_switched_off(unique: str) -> None:
    bus = build(Settings.in_memory(health_port=9, telemetry="never"), Diary(), unique)
    metrics.page(bus)
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        assert b"bus_" not in metrics.page(bus)[1]
        assert bus.runtime.signals.pages == {}


@pytest.mark.real_time
def test_nothing_is_imported_where_nobody_can_see_it() -> None:
    code = (
        "import asyncio, sys\n"
        "from bus import Bus, Settings, Worker\n"
        "async def run():\n"
        "    bus = Bus('bank', settings=Settings.in_memory(health_port=0))\n"
        "    async with bus, Worker(bus): pass\n"
        "asyncio.run(run())\n"
        "found = {'prometheus_client', 'opentelemetry'} & sys.modules.keys()\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_run_that_is_watched_counts_for_those_it_stands_for() -> None:
    tally, heard = listening()
    run = signals.CommandHandled
    fields: dict[str, Any] = {"message_id": "", "correlation_id": "", "handler": "", "attempt": 1}
    heard.emit(run, message="Pay", seconds=0.03, outcome="done", runs=128, **fields)
    heard.emit(run, message="Pay", seconds=20.0, outcome="done", **fields)
    found = tally.read().histograms["bus.command.duration"]["Pay", "done"]
    assert sum(found.counts) == 129
    assert (found.counts[3], found.counts[-1]) == (128, 1)  # up to 0.05, and beyond the last
    assert found.total == pytest.approx(20 + 128 * 0.03)


def test_a_value_at_a_bound_is_in_the_bucket_of_that_bound() -> None:
    tally, heard = listening()
    heard.emit(signals.Published, messages=1, failed=0, size=1, seconds=0.005)
    assert tally.read().histograms["bus.publish.duration"][()].counts[0] == 1


def test_many_types_of_errors_are_one_label_in_the_end() -> None:
    tally, heard = listening()
    for number in range(200):
        heard.emit(signals.GaveUp, **gave_up(f"Error{number}"))
    heard.emit(signals.GaveUp, **gave_up("Error0"))
    found = tally.read().counters["bus.given_up"]
    assert len(found) == MOST_ERRORS
    assert found["q", OTHER] == 200 - (MOST_ERRORS - 1)
    assert found["q", "Error0"] == 2


def gave_up(error: str) -> Mapping[str, Any]:
    texts = dict.fromkeys(("message", "message_id", "reason", "group", "letter"), "")
    return {"queue": "q", "error": error, "attempts": 1, **texts}


def listening() -> tuple[Tally, Signals]:
    tally, heard = Tally(), Signals("bank")
    tally.listen(heard)
    return tally, heard


def measured() -> tuple[States, Signals]:
    states, heard = States(), Signals("bank")
    states.listen(heard)
    return states, heard


def test_a_state_that_is_not_measured_again_is_forgotten() -> None:
    states, heard = measured()
    for queues in (("a", "b"), ("b",)):
        for queue in queues:
            heard.emit(signals.QueueMeasured, queue, messages=1, consumers=1, expected=1)
        heard.emit(signals.StatesMeasured, goes_on=True, seconds=0.1)
    assert states.read()["bus.queue.messages"] == {("b",): 1}


def test_states_are_forgotten_as_another_process_measures_them() -> None:
    states, heard = measured()
    heard.emit(signals.BacklogMeasured, commits=3, seconds=7.5, more=False)
    heard.emit(signals.StatesMeasured, goes_on=True, seconds=0.1)
    assert states.read()["bus.unpublished.age"] == {(): 7.5}
    assert states.read()["bus.facts.age"][()] >= 0
    heard.emit(signals.QueueMeasured, "q", messages=1, consumers=1, expected=1)
    heard.emit(signals.StatesMeasured, goes_on=False, seconds=0.0)
    assert not any(states.read().values())


def test_what_cannot_be_measured_is_told_until_it_can() -> None:
    states, heard = measured()
    heard.emit(signals.StatesMeasured, goes_on=True, seconds=0.1, failing=["queues"])
    assert states.read()["bus.facts.failing"] == {("queues",): 1}
    heard.emit(signals.StatesMeasured, goes_on=True, seconds=0.1)
    assert states.read()["bus.facts.failing"] == {}


def test_of_a_build_its_share_is_told() -> None:
    states, heard = measured()
    heard.emit(signals.BuildMeasured, "wallets", "wallets_2", replayed=30, commits=120)
    heard.emit(signals.BuildMeasured, "others", "others_2", replayed=5, commits=0)
    found = states.read()["bus.projection.build"]
    assert found == {("wallets", "wallets_2"): 0.25, ("others", "others_2"): 1}


def test_of_two_readings_counts_add_up_and_trouble_shows() -> None:
    one = Reading(
        {"bus.relayed": {(): 2}},
        {"bus.connected": {("publishing",): 1}, "bus.health": {("broker", "nothing"): 0}},
        {"bus.store.duration": {(): Distribution((1, 0), 0.5)}},
    )
    other = Reading(
        {"bus.relayed": {(): 3}},
        {"bus.connected": {("publishing",): 0}, "bus.health": {("broker", "nothing"): 1}},
        {"bus.store.duration": {(): Distribution((1, 4), 1.5)}},
    )
    both = joined([one, other])
    assert both.counters == {"bus.relayed": {(): 5}}
    assert both.gauges["bus.connected"] == {("publishing",): 0}
    assert both.gauges["bus.health"] == {("broker", "nothing"): 1}
    assert both.histograms["bus.store.duration"][()] == Distribution((2, 4), 2.0)
