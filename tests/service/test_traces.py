"""Traces over RabbitMQ and MongoDB: what is a child, what is linked to, and what has no span."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from bus import Bus, DeadLetters, Projections, Settings, Worker
from bus.codec import record
from bus.common import clock
from bus.observe.log import add_message
from bus.operate.events import Events
from bus.stores.event_log import Commit
from bus.write.relay import Relay
from tests.service.wallet import Diary, GetWallet, Paid, Pay, build
from tests.spans import Spans, is_child, linked, place, recorded
from tests.waiting import in_parts, until

pytestmark = pytest.mark.real_time


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded() as spans:
        yield spans


def service(
    settings: Settings, spans: Spans, unique: str, diary: Diary | None = None, share: float = 0.0
) -> Bus:
    """The wallets; only what comes with a context is in a trace, unless a share begins some. A test
    may hold the diary's handlers back for long."""
    settings = settings.model_copy(update={"trace_share": share})
    return spans.of(build(settings, diary or Diary(), unique, time_limit=60.0))


async def pay(bus: Bus, spans: Spans, mood: str = "", wallet: str = "a") -> ReadableSpan:
    """Pays within a request; returns the span of the command."""
    with spans.tracer.start_as_current_span("POST /payments"):
        await bus.execute(Pay(wallet_id=wallet, amount=1, mood=mood))
    return spans.named("command Pay")[-1]


async def spans_of(spans: Spans, name: str, count: int) -> list[ReadableSpan]:
    found: list[ReadableSpan] = await until(
        lambda: (some := spans.named(name))[count - 1 :] and some, f"{count} of {name}"
    )
    return found


async def test_one_request_is_one_trace_through_queue_handler_and_projection(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique, diary := Diary())
    diary.open.clear()
    async with bus, Worker(bus):
        with spans.tracer.start_as_current_span("POST /payments") as request:
            receipt = await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"))
            await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
            diary.open.set()  # so that both events are projected, each by itself
        command, thank = spans.one("command Pay"), f"process {unique}.commands"
        (thanks,) = await spans_of(spans, thank, 1)
        await spans_of(spans, "project wallets", 2)
        await spans_of(spans, f"send {unique}.events:wallet.Thanked", 1)
        (sent,) = await spans_of(spans, f"send {unique}.events:wallet.Paid", 1)
        await spans_of(spans, f"ack {unique}.thanking", 1)
        await spans_of(spans, f"ack {unique}.wallets", 2)
    trace, _ = place(request)
    assert {place(span)[0] for span in spans.all} == {trace}
    assert is_child(command, request)
    assert is_child(sent, command)
    process = next(
        one for one in spans.named(f"process {unique}.thanking") if is_child(one, command)
    )
    assert process.kind is SpanKind.CONSUMER
    assert is_child(thanks, process)
    assert [
        is_child(one, command) or is_child(one, thanks) for one in spans.named("project wallets")
    ]
    for name in (f"receive {unique}.thanking", f"ack {unique}.thanking"):
        assert is_child(spans.named(name)[0], command), name
    stored = spans.named(f"store {unique}")
    assert {one.parent.span_id for one in stored if one.parent} >= {
        place(command)[1],
        place(process)[1],
        place(thanks)[1],
    }
    ids = {place(span)[1] for span in spans.all}
    assert [span.name for span in spans.all if span.parent and span.parent.span_id not in ids] == []


async def test_a_command_that_is_sent_or_requested_is_one_trace(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique, share=1.0)
    async with bus, Worker(bus):
        await bus.send(Pay(wallet_id="a", amount=1))
        await bus.request(Pay(wallet_id="b", amount=1))
        processed = await spans_of(spans, f"process {unique}.commands", 2)
    sent = spans.named(f"send {unique}.commands:command")
    assert [one.kind for one in sent] == [SpanKind.PRODUCER] * 2
    assert {one.parent and (one.parent.trace_id, one.parent.span_id) for one in processed} == {
        place(one) for one in sent
    }
    requested = sent[1]
    answered = next(one for one in processed if is_child(one, requested))
    assert requested.end_time is not None
    assert answered.end_time is not None
    assert requested.end_time >= answered.end_time  # it is over with the answer


@pytest.mark.parametrize("mood", ["fails once", "needs the ladder", "later"])
async def test_later_tries_are_traces_of_their_own_with_a_link(
    settings: Settings, unique: str, spans: Spans, mood: str
) -> None:
    bus, tries = service(settings, spans, unique), 3 if mood == "needs the ladder" else 2
    async with bus, Worker(bus):
        command = await pay(bus, spans, mood)
        first, *later = await spans_of(spans, f"process {unique}.thanking", tries)
    assert is_child(first, command)
    assert [(one.parent, linked(one)) for one in later] == [(None, [place(command)])] * (tries - 1)
    put_off = [one for one in spans.all if one.name.startswith(f"send {unique}.delay.")]
    assert [is_child(one, command) for one in put_off] == [True] * (mood != "fails once")
    attempts = [dict(one.attributes or {})["bus.attempt"] for one in (first, *later)]
    assert attempts == [*range(1, tries + 1)]
    assert later[-1].status.status_code is StatusCode.UNSET
    outcome = dict(first.attributes or {})["bus.outcome"]
    if mood == "later":
        assert (first.status.status_code, outcome) == (StatusCode.UNSET, "put_off")
        assert [(event.name, dict(event.attributes or {})) for event in first.events] == [
            ("put off", {"bus.delay": 0.5})
        ]
    else:
        assert (first.status.status_code, outcome) == (StatusCode.ERROR, "failed")
        assert dict(first.attributes or {})["error.type"] == "RuntimeError"


async def test_the_lines_of_a_worker_name_the_trace_of_the_try_that_they_are_about(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique)
    with capture_logs(processors=[add_message]) as lines:
        async with bus, Worker(bus):
            await bus.execute(Pay(wallet_id="b", amount=1, mood="needs the ladder"))
            await pay(bus, spans, "needs the ladder")
            await until(
                lambda: len([one for one in lines if one["event"] == "retried"]) == 2, "both told"
            )
    second = spans.named(f"process {unique}.thanking")[1]
    told = {
        line.get("trace_id"): line.get("span_id") for line in lines if line["event"] == "retried"
    }
    trace, span = place(second)
    assert told == {None: None, f"{trace:032x}": f"{span:016x}"}


async def test_a_dead_letter_that_is_retried_is_linked_to_what_made_it(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique)
    async with bus, Worker(bus):
        command = await pay(bus, spans, "rejects")
        letters = DeadLetters(bus)
        await until(letters.list, "it is a dead letter")
        await letters.retry(all=True)
        first, again = await spans_of(spans, f"process {unique}.thanking", 2)
    assert is_child(first, command)
    assert (again.parent, linked(again)) == (None, [place(command)])


async def test_what_is_sent_again_from_the_log_is_linked_to_what_made_it(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique)
    start = clock.now() - timedelta(minutes=1)
    async with bus, Worker(bus):
        command = await pay(bus, spans)
        await spans_of(spans, f"process {unique}.thanking", 1)
        await Events(bus).republish("thanking", since=start)
        _, again = await spans_of(spans, f"process {unique}.thanking", 2)
    assert (again.parent, linked(again)) == (None, [place(command)])


async def test_a_rebuild_is_a_trace_of_its_own_and_no_part_of_what_it_reads(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique)
    async with bus, Worker(bus):
        command = await pay(bus, spans)
        for last in ("ack {}.wallets", "ack {}.thanking", "send {}.events:wallet.Paid"):
            await spans_of(spans, last.format(unique), 1)
        spans.clear()
        await Projections(bus).rebuild("wallets")
        (rebuilt,) = await spans_of(spans, "rebuild wallets", 1)
    assert (rebuilt.parent, list(rebuilt.links)) == (None, [])
    assert dict(rebuilt.attributes or {}) == {"bus.commits": 1}
    assert [one.name for one in spans.all if place(one)[0] == place(command)[0]] == []


async def test_what_the_relay_sends_is_linked_to_who_left_it(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique)
    async with bus:
        runtime = bus.runtime
        relay = Relay(runtime.event_log, runtime.publisher, runtime.control)
        assert not await relay.relay_once()
        assert spans.all == []
        with spans.tracer.start_as_current_span("before the outage") as before:
            pass
        await runtime.event_log.append([left_over(before, number) for number in range(3)])
        assert await until(relay.relay_once, "it is sent")
    relayed, sent = spans.one(f"relay {unique}"), spans.one(f"send {unique}.events:wallet.Paid")
    for span in (relayed, sent):
        assert (span.parent, linked(span)) == (None, [place(before)] * 3)


def left_over(span: Any, number: int) -> Commit:
    trace, own = place(span)
    time = clock.now() - timedelta(minutes=1)
    return Commit(
        f"c{number}",
        f"wallet-{number}",
        "wallet",
        1,
        (record(Paid(amount=1)),),
        time,
        "talk",
        headers={"traceparent": f"00-{trace:032x}-{own:016x}-01"},
    )


async def test_of_many_messages_only_the_traces_that_are_sampled_have_spans(
    settings: Settings, unique: str, spans: Spans
) -> None:
    bus = service(settings, spans, unique)
    async with bus:
        await in_parts(bus.execute(Pay(wallet_id=f"w{number}", amount=1)) for number in range(150))
        for number in range(5):
            await pay(bus, spans, wallet=f"sampled{number}")
        await in_parts(bus.execute(Pay(wallet_id=f"v{number}", amount=1)) for number in range(145))
        queue = f"{unique}.wallets"
        depth = partial(bus.runtime.transport.depth, queue)

        async def all_there() -> bool:
            return await depth() == 300

        await until(all_there, "all are in the queue")
        async with Worker(bus):
            commands = spans.named("command Pay")
            assert len(commands) == 5

            def children() -> bool:
                found = spans.named("project wallets")
                return all(any(is_child(one, command) for one in found) for command in commands)

            await until(children, "each trace has its span")

            async def empty() -> bool:
                return await depth() == 0 and len(spans.named(f"process {unique}.thanking")) == 5

            await until(empty, "all is applied")
    found = spans.named("project wallets")
    of_batches = [one for one in found if one.kind is SpanKind.CONSUMER]
    parts = [one for one in found if one.kind is SpanKind.INTERNAL]
    alone = [one for one in of_batches if one.parent]
    assert len(parts) + len(alone) == 5
    linking = sorted(link for one in of_batches for link in linked(one))
    assert linking == sorted(
        place(command) for command in commands if not any(is_child(a, command) for a in alone)
    )
    whole = {place(one) for one in of_batches}
    assert all(set(linked(part)) <= whole for part in parts)
    assert len(spans.named(f"process {unique}.thanking")) == 5


async def test_idle_work_has_no_spans(settings: Settings, unique: str, spans: Spans) -> None:
    bus = service(settings.model_copy(update={"sweep_every": 0.2}), spans, unique, share=1.0)
    async with bus, Worker(bus):
        await asyncio.sleep(3)  # for relay, sweeps, sentinel, upkeep and health to take turns
        await bus.health()
    assert [span.name for span in spans.all] == []
