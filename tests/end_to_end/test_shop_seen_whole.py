"""The shop of three services, which has no line of telemetry, is seen whole by who runs it.

A payment that the bank refuses and a courier who is away are found in traces, metrics and log.
"""

import json
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.shop.payments import DECLINED
from tests.shop.processes import PROCESSES, SERVICES, Shop, running
from tests.shop.spans import Span, server_span, spans_of
from tests.waiting import until


class Sample(NamedTuple):
    """A value of a metric that one service's worker must show: at least so much."""

    service: str
    name: str
    labels: dict[str, str]
    least: float


@pytest.fixture
async def shop(amqp_url: str, mongo_url: str, unique: str, tmp_path: Path) -> AsyncIterator[Shop]:
    often = {"BUS_FACTS_EVERY": "1"}
    async with running(amqp_url, mongo_url, unique, tmp_path, watched=True, **often) as shop:
        yield shop


def spans(shop: Shop) -> list[Span]:
    return spans_of(shop.folder, PROCESSES)


def trace_of(shop: Shop, *, after: float) -> list[Span]:
    """The trace of the order that was placed after a time; nothing before that is exported."""
    found = spans(shop)
    server = server_span(found, "POST /orders", after=after)
    return [one for one in found if server and one.trace_id == server.trace_id]


async def processed(shop: Shop, queue: str, *, after: float) -> list[Span]:
    """Waits for the spans of a queue's handler in that trace."""

    def found() -> list[Span]:
        name = f"process {shop.name}_{queue}"
        return [one for one in trace_of(shop, after=after) if one.name == name]

    result: list[Span] = await until(found, f"the trace has what {queue} did")
    return result


def lines_of(shop: Shop) -> list[dict[str, Any]]:
    """All that was logged: each line is one JSON object, whoever wrote it."""
    return [json.loads(line) for one in shop.processes.values() for line in one.log().splitlines()]


def lines(shop: Shop, event: str) -> list[dict[str, Any]]:
    return [one for one in lines_of(shop) if one["event"] == event]


def expected(shop: Shop) -> list[Sample]:
    """What workers tell after one order went well, one was refused and one waited."""
    orders, payments, shipping = (f"{shop.name}_{service}" for service in SERVICES)
    taking = {"queue": f"{payments}.taking"}
    parcels_out = {"queue": f"{shipping}.parcels_out"}
    handled = {"message": "OrderPlaced", "subscription": "taking"}
    sent = {"message": "PaymentTaken", "subscription": "parcels_out"}
    projected = {"orders": "orders_board", "shipping": "parcels"}
    return [
        *(Sample(service, "bus_info", {}, 1) for service in SERVICES),
        *(Sample(service, "bus_connected", {"purpose": "consuming"}, 1) for service in SERVICES),
        *(Sample(service, "bus_unpublished", {}, 0) for service in SERVICES),
        *(
            Sample(service, name, {"projection": projection}, least)
            for service, projection in projected.items()
            for name, least in (
                ("bus_projection_events_total", 2),
                ("bus_projection_visible_seconds_count", 1),
                ("bus_projection_lag_seconds", 0),
                ("bus_projection_lag_events", 0),
            )
        ),
        Sample("orders", "bus_queue_consumers", {"queue": f"{orders}.orders_board"}, 1),
        Sample("payments", "bus_events_handled_total", {**handled, "outcome": "done"}, 2),
        Sample("payments", "bus_events_handled_total", {**handled, "outcome": "failed"}, 1),
        Sample("payments", "bus_given_up_total", {**taking, "error": "Reject"}, 1),
        Sample("payments", "bus_dead_letters", {**taking, "error": "Reject"}, 1),
        Sample("payments", "bus_stored_events_total", {}, 2),
        Sample("shipping", "bus_events_handled_total", {**sent, "outcome": "done"}, 2),
        Sample("shipping", "bus_events_handled_total", {**sent, "outcome": "put_off"}, 1),
        Sample("shipping", "bus_put_off_total", parcels_out, 1),
    ]


async def is_told(shop: Shop, sample: Sample) -> bool:
    page = (await shop.http.get(f"{shop.urls[sample.service]}/metrics")).text
    wanted = {"service": f"{shop.name}_{sample.service}", **sample.labels}.items()
    return any(
        one.name == sample.name and wanted <= one.labels.items() and one.value >= sample.least
        for family in text_string_to_metric_families(page)
        for one in family.samples
    )


async def test_who_runs_the_shop_sees_it_whole(shop: Shop) -> None:
    good = time.time()
    await shop.until_shown(await shop.place(), courier="Ada")
    for queue in ("payments.taking", "shipping.parcels_out"):
        (one,) = await processed(shop, queue, after=good)
        assert (one.status, one.attributes["bus.outcome"]) == ("UNSET", "done")

    refused = time.time()
    await shop.place(card=DECLINED)
    (failed,) = await processed(shop, "payments.taking", after=refused)
    assert (failed.status, failed.attributes["error.type"]) == ("ERROR", "Reject")
    assert "exception" in failed.events
    await until(lambda: lines(shop, "gave_up"), "the log says that it was given up")
    (told,) = lines(shop, "gave_up")
    assert (told["level"], told["trace_id"]) == ("error", failed.trace_id)

    shop.no_courier.touch()
    waiting = time.time()
    order_id = await shop.place()
    (put_off,) = await processed(shop, "shipping.parcels_out", after=waiting)
    assert (put_off.status, put_off.events) == ("UNSET", ("put off",))
    await until(lambda: lines(shop, "put_off"), "the log says that it was put off")
    assert lines(shop, "put_off")[0]["trace_id"] == put_off.trace_id
    assert {one["level"] for one in lines(shop, "put_off")} == {"debug"}
    shop.no_courier.unlink()
    await shop.until_shown(order_id, courier="Ada")

    def later() -> list[str]:
        """The traces of later tries, which link to the first one, and are no part of it."""
        linked = [one for one in spans(shop) if put_off.trace_id in one.links]
        return [one.trace_id for one in linked if one.attributes.get("bus.outcome") == "done"]

    def is_on_the_board() -> bool:
        return any(one.trace_id in later() and "orders_board" in one.name for one in spans(shop))

    await until(is_on_the_board, "a later try's trace leads to the board")
    assert put_off.trace_id not in later()
    errors = [
        one for one in spans(shop) if one.status == "ERROR" and one.name.startswith("process")
    ]
    assert errors == [failed]

    for sample in expected(shop):
        await until(partial(is_told, shop, sample), f"/metrics tells {sample}")

    await shop.stop()
    of_messages = [one for one in lines_of(shop) if "message_id" in one]
    assert of_messages
    assert [one for one in of_messages if not one.get("trace_id")] == []
    assert {one["trace_id"] for one in of_messages} <= {one.trace_id for one in spans(shop)}
