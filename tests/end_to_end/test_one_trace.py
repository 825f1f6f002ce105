"""One request is one trace: from HTTP by command, store and RabbitMQ to handlers and projections.

The spans are those that the processes exported, started by `opentelemetry-instrument` as an
operator would. Who is whose ancestor is compared, not who is whose parent, because others put spans
of their own between: FastAPI does.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.shop.processes import PROCESSES, Shop, running
from tests.shop.spans import Span, ancestors, server_span, spans_of
from tests.waiting import until

OFTEN = {
    "BUS_SWEEP_EVERY": "1",
    "BUS_SENTINEL_EVERY": "1",
    "BUS_FACTS_EVERY": "1",
    "BUS_COMPARE_EVERY": "1",
}
"""What goes on by itself comes as often in seconds as else in minutes."""
IDLE = 12.0
"""Seconds in which nobody asks for anything."""


class Hop(NamedTuple):
    """A span that a trace must have, and what must be above it.

    What was taken or acknowledged together with messages of others is one span, which links to each
    of their traces; what was projected together is one besides, and is told of what is in it.
    """

    process: str
    kind: str
    name: str
    below: tuple[str, str]

    def is_in(self, spans: Sequence[Span]) -> bool:
        return any(
            self._is(one) and self.below in {(a.process, a.name) for a in ancestors(one, spans)}
            for one in spans
        )

    def is_linked(self, linked: Sequence[Span]) -> bool:
        together = self.name.startswith(("receive ", "ack "))
        return together and any(self._is(one) for one in linked)

    def _is(self, span: Span) -> bool:
        kinds = {self.kind, "INTERNAL"} if self.name.startswith("project ") else {self.kind}
        return (span.process, span.name) == (self.process, self.name) and span.kind in kinds


@pytest.fixture
async def shop(amqp_url: str, mongo_url: str, unique: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with running(amqp_url, mongo_url, unique, tmp_path, watched=True, **OFTEN) as shop:
        yield shop


async def trace(shop: Shop, root: str, hops: Sequence[Hop], *, after: float) -> list[Span]:
    """Waits until a request's trace has these hops; returns its spans."""

    def found() -> tuple[list[Span], list[Hop]]:
        """What is in the trace so far, and what is missing."""
        spans = spans_of(shop.folder, PROCESSES)
        server = server_span(spans, root, after=after)
        if server is None:
            return [], list(hops)
        inside = [one for one in spans if one.trace_id == server.trace_id]
        linked = [one for one in spans if server.trace_id in one.links]
        return inside, [hop for hop in hops if not (hop.is_in(inside) or hop.is_linked(linked))]

    def is_whole() -> bool:
        inside, missing = found()
        return not missing and len(roots(inside)) == 1

    try:
        await until(is_whole, "the trace has all hops")
    except AssertionError:
        inside, missing = found()
        told = sorted((one.process, one.kind, one.name) for one in inside)
        beginning = [one.name for one in roots(inside)]
        raise AssertionError(f"missing: {missing}; {beginning} begin; there are {told}") from None
    return found()[0]


def roots(spans: Sequence[Span]) -> list[Span]:
    """Those whose parent is not among them."""
    ids = {one.id for one in spans}
    return [one for one in spans if one.parent not in ids]


def expect_one_tree(spans: Sequence[Span], root: str) -> None:
    """Every span has its parent in the trace, but the one that it began with; nothing failed."""
    assert [one.name for one in roots(spans)] == [root]
    assert [one for one in spans if one.status == "ERROR"] == []


def over_two_services(name: str) -> list[Hop]:
    """What an order is by the time that its payment is on the board."""
    request = ("api", "POST /orders")
    command = ("api", "command PlaceOrder")
    taken = ("payments", f"process {name}_payments.taking")
    return [
        Hop("api", "INTERNAL", "command PlaceOrder", request),
        Hop("api", "INTERNAL", f"store {name}_orders", command),
        Hop("api", "CLIENT", f"send {name}_orders.events:order.OrderPlaced", command),
        Hop("orders", "CLIENT", f"receive {name}_orders.orders_board", command),
        Hop("orders", "CONSUMER", "project orders_board", command),
        Hop("payments", "CLIENT", f"receive {name}_payments.taking", command),
        Hop("payments", "CONSUMER", taken[1], command),
        Hop("payments", "INTERNAL", f"store {name}_payments", taken),
        Hop("payments", "CLIENT", f"send {name}_payments.events:payment.PaymentTaken", taken),
        Hop("payments", "CLIENT", f"ack {name}_payments.taking", command),
        Hop("orders", "CONSUMER", "project orders_board", taken),
    ]


def in_the_third(name: str) -> list[Hop]:
    """What shipping adds."""
    taken = ("payments", f"process {name}_payments.taking")
    sent = ("shipping", f"process {name}_shipping.parcels_out")
    return [
        Hop("shipping", "CLIENT", f"receive {name}_shipping.parcels_out", taken),
        Hop("shipping", "CONSUMER", sent[1], taken),
        Hop("shipping", "INTERNAL", f"store {name}_shipping", sent),
        Hop("shipping", "CLIENT", f"send {name}_shipping.events:parcel.ParcelSent", sent),
        Hop("shipping", "CLIENT", f"ack {name}_shipping.parcels_out", taken),
        Hop("shipping", "CONSUMER", "project parcels", sent),
        Hop("shipping", "CLIENT", f"ack {name}_shipping.parcels", sent),
        Hop("orders", "CONSUMER", "project orders_board", sent),
        Hop("orders", "CLIENT", f"ack {name}_orders.orders_board", sent),
    ]


def of_a_refund(name: str) -> list[Hop]:
    """What a cancelled order is: another service's handler sends a command to its own queue."""
    cancelled = ("api", "command CancelOrder")
    handled = ("payments", f"process {name}_payments.taking")
    refunded = ("payments", f"process {name}_payments.commands")
    return [
        Hop("api", "INTERNAL", f"store {name}_orders", cancelled),
        Hop("payments", "CONSUMER", handled[1], cancelled),
        Hop("payments", "CLIENT", f"send {name}_payments.commands:command", handled),
        Hop("payments", "CONSUMER", refunded[1], handled),
        Hop("payments", "INTERNAL", f"store {name}_payments", refunded),
        Hop("orders", "CONSUMER", "project orders_board", refunded),
    ]


async def test_one_request_is_one_trace_over_two_services(shop: Shop) -> None:
    """Payments and orders: the event goes there, and what comes of it comes back to the board."""
    began = time.time()
    order_id = await shop.place()
    await shop.until_shown(order_id, paid=40)
    spans = await trace(shop, "POST /orders", over_two_services(shop.name), after=began)
    assert {one.process for one in spans} >= {"api", "orders", "payments"}


async def test_and_over_the_third_and_a_queued_command_and_nothing_else_is_in_it(
    shop: Shop,
) -> None:
    began = time.time()
    order_id = await shop.place()
    await shop.until_shown(order_id, courier="Ada")
    hops = [*over_two_services(shop.name), *in_the_third(shop.name)]
    placed = await trace(shop, "POST /orders", hops, after=began)
    expect_one_tree(placed, "POST /orders")

    await shop.cancel(order_id)
    await shop.until_shown(order_id, state="cancelled", paid=0)
    root = "DELETE /orders/{order_id}"
    cancelled = await trace(shop, root, of_a_refund(shop.name), after=began)
    expect_one_tree(cancelled, root)
    assert placed[0].trace_id != cancelled[0].trace_id


async def test_what_a_board_takes_together_is_in_the_trace_each_time(shop: Shop) -> None:
    """Its worker is held up, so that the order, the payment and the parcel wait for it."""
    hops = [*over_two_services(shop.name), *in_the_third(shop.name)]
    board = shop.processes["orders"]
    began = time.time()
    board.signal(signal.SIGSTOP)
    try:
        order_id = await shop.place()
        elsewhere = [hop for hop in hops if hop.process != "orders"]
        await trace(shop, "POST /orders", elsewhere, after=began)
    finally:
        board.signal(signal.SIGCONT)
    await shop.until_shown(order_id, paid=40, courier="Ada")
    expect_one_tree(await trace(shop, "POST /orders", hops, after=began), "POST /orders")


async def test_work_that_finds_nothing_to_do_has_no_span(shop: Shop) -> None:
    """Polling, sweeping, comparing, leases, health: MongoDB's own instrumentation is on, too."""
    began = time.time()
    await shop.until_shown(await shop.place(), courier="Ada")
    hops = [*over_two_services(shop.name), *in_the_third(shop.name)]
    await trace(shop, "POST /orders", hops, after=began)
    idle = time.time()
    await asyncio.sleep(IDLE)  # the time itself is what is looked at
    over = time.time()
    await shop.place()
    # Each process exports in order: what began before is there, once this is.
    await trace(shop, "POST /orders", hops, after=over)
    seen = [one for one in spans_of(shop.folder, PROCESSES) if idle < one.began < over]
    assert [(one.process, one.name) for one in seen] == []
