"""Spans of commands, queries, messages and batches: names, kinds, parents, links, attributes."""

from collections.abc import Iterator
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import context as ambient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue
from structlog.testing import capture_logs

from bus import (
    Bus,
    Command,
    ConcurrencyError,
    Duty,
    Envelope,
    InvalidMessage,
    Query,
    Reject,
    Retry,
    Router,
    Settings,
    Worker,
)
from bus.codec import command_frame, new_envelope
from bus.common import clock
from bus.common.tasks import apart
from bus.observe.log import add_message
from bus.observe.signals import CommandHandled, EventHandled
from bus.observe.tracer import Batch, What, batch_of
from bus.telemetry import uninstrument
from bus.telemetry.tracing import contexts
from bus.telemetry.tracing.attributes import Conventions
from bus.telemetry.tracing.spans import SpanTracer
from bus.transports.base import EPOCH, Delivery, Frame
from tests.spans import Spans, is_child, linked, place, recorded
from tests.unit.accounts import Opened
from tests.waiting import until

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = f"{SAMPLED[:-1]}0"
THEIRS = (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)


class Move(Command):
    mood: str = ""


class Look(Query[str]):
    pass


class Service:
    """A bus in memory, of which the spans are kept, and what its handlers saw."""

    def __init__(self, spans: Spans, share: float = 1.0) -> None:
        self.headers: list[dict[str, str]] = []
        self.spans: list[SpanContext] = []
        moves = Router("moves")
        conflicts = [2]

        @moves.command
        async def move(command: Move, envelope: Envelope) -> None:
            self.headers.append(dict(envelope.headers))
            self.spans.append(get_current_span().get_span_context())
            match command.mood:
                case "later":
                    raise Retry(5)
                case "rejects":
                    raise Reject("no such place")
                case "conflicts" if conflicts[0]:
                    conflicts[0] -= 1
                    raise ConcurrencyError("another was first")

        @moves.query
        async def look(query: Look) -> str:
            return f"{get_current_span().get_span_context().span_id:x}"

        settings = Settings.in_memory(trace_share=share)
        self.bus = spans.of(Bus("bank", routers=[moves], settings=settings))

    async def __aenter__(self) -> Bus:
        return await self.bus.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        await self.bus.__aexit__(*raised)


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded() as spans:
        yield spans


def attributes(span: ReadableSpan) -> dict[str, AttributeValue]:
    return dict(span.attributes or {})


async def test_a_command_and_a_query_are_children_of_the_request_they_come_with(
    spans: Spans,
) -> None:
    service = Service(spans)
    async with service as bus:
        with spans.tracer.start_as_current_span("POST /moves") as request:
            await bus.execute(Move(), id="m1", correlation_id="talk")
            answer = await bus.query(Look())
    command, query = spans.one("command Move"), spans.one("query Look")
    assert is_child(command, request)
    assert is_child(query, request)
    assert command.kind is SpanKind.INTERNAL
    assert f"{place(query)[1]:x}" == answer
    assert attributes(command) == {
        "bus.message": "Move",
        "bus.handler": attributes(command)["bus.handler"],
        "bus.outcome": "done",
        "messaging.message.id": "m1",
        "messaging.message.conversation_id": "talk",
    }
    assert command.status.status_code is StatusCode.UNSET
    assert [(one.trace_id, one.span_id) for one in service.spans] == [place(command)]
    assert service.headers[0]["traceparent"] == contexts.written(service.spans[0])


async def test_a_command_without_a_context_begins_a_trace_and_a_query_does_not(
    spans: Spans,
) -> None:
    async with Service(spans) as bus:
        await bus.query(Look())
        await bus.execute(Move())
    assert spans.one("command Move").parent is None
    assert spans.named("query Look") == []


async def test_the_share_decides_how_many_begin_a_trace(spans: Spans) -> None:
    async with Service(spans, share=0.0) as bus:
        for _ in range(50):
            await bus.execute(Move())
        assert spans.all == []
        with spans.tracer.start_as_current_span("POST /moves"):
            await bus.execute(Move())
    assert len(spans.named("command Move")) == 1


async def test_a_context_that_is_given_in_the_headers_wins(spans: Spans) -> None:
    service = Service(spans)
    async with service as bus:
        with spans.tracer.start_as_current_span("POST /moves"):
            await bus.execute(
                Move(), headers={"traceparent": SAMPLED, "tracestate": "a=1,b=2", "tenant": "x"}
            )
    parent = spans.one("command Move").parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == THEIRS
    assert service.headers[0]["tracestate"] == "a=1,b=2"
    assert service.headers[0]["tenant"] == "x"


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", f"ff{SAMPLED[2:]}", f"00-{'0' * 32}-b7ad6b7169203331-01", f"{SAMPLED}\n",
     f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", SAMPLED.upper(), f"{SAMPLED}-more"],
)  # fmt: skip
async def test_what_is_no_context_is_passed_over(spans: Spans, text: str) -> None:
    assert contexts.parsed(text) is None
    async with Service(spans, share=0.0) as bus:
        await bus.execute(Move(), headers={"traceparent": text})
    assert spans.all == []


async def test_a_trace_that_is_not_sampled_is_handed_on_and_has_no_spans(spans: Spans) -> None:
    service = Service(spans)
    unsampled = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(0))
    async with service as bus:
        token = ambient.attach(set_span_in_context(NonRecordingSpan(unsampled)))
        try:
            await bus.execute(Move())
            await bus.query(Look())
        finally:
            ambient.detach(token)
        await bus.execute(Move(), headers={"traceparent": NOT_SAMPLED})
    assert spans.all == []
    assert [one["traceparent"] for one in service.headers] == [
        contexts.written(unsampled),
        NOT_SAMPLED,
    ]


async def test_a_sampler_that_wants_none_has_the_rest_of_the_trace_left_out() -> None:
    with recorded(ALWAYS_OFF) as spans:
        service = Service(spans)
        async with service as bus:
            await bus.execute(Move())
        assert spans.all == []
    sent = contexts.read(service.headers[0])
    assert sent is not None
    assert not sent.trace_flags.sampled


async def test_what_each_run_looks_at_is_the_ambient_context(spans: Spans) -> None:
    look = Told(spans).tracer.ambient
    assert not look()
    with spans.tracer.start_as_current_span("POST /moves"):
        assert look() is ambient.get_current()
    assert not look()


async def test_who_suppresses_instrumentation_has_no_spans_made(spans: Spans) -> None:
    async with Service(spans) as bus:
        token = ambient.attach(ambient.set_value(ambient._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            await bus.execute(Move())
        finally:
            ambient.detach(token)
    assert spans.all == []


async def test_what_a_handler_raises_is_told_by_its_type_and_no_payload(spans: Spans) -> None:
    async with Service(spans) as bus:
        with pytest.raises(Reject):
            await bus.execute(Move(mood="rejects"))
    command = spans.one("command Move")
    assert command.status.status_code is StatusCode.ERROR
    assert attributes(command)["error.type"] == "Reject"
    assert attributes(command)["bus.outcome"] == "failed"
    (event,) = command.events
    assert event.name == "exception"
    assert dict(event.attributes or {}) == {
        "exception.type": "Reject",
        "exception.message": "no such place",
    }


async def test_a_later_try_is_an_event_and_no_error(spans: Spans) -> None:
    async with Service(spans) as bus:
        with pytest.raises(Retry):
            await bus.execute(Move(mood="later"))
    command = spans.one("command Move")
    assert command.status.status_code is StatusCode.UNSET
    assert attributes(command)["bus.outcome"] == "put_off"
    assert "error.type" not in attributes(command)
    (event,) = command.events
    assert (event.name, dict(event.attributes or {})) == ("put off", {"bus.delay": 5})


async def test_conflicts_are_told_in_the_span_of_the_command(spans: Spans) -> None:
    async with Service(spans) as bus:
        await bus.execute(Move(mood="conflicts"))
    command = spans.one("command Move")
    assert [event.name for event in command.events] == ["conflict", "conflict"]
    assert attributes(command)["bus.conflicts"] == 2


async def test_a_command_that_is_repeated_in_another_trace_is_a_repeat(spans: Spans) -> None:
    service = Service(spans)
    async with service as bus:
        with spans.tracer.start_as_current_span("POST /moves"):
            first = await bus.execute(Move(), id="m1")
        with spans.tracer.start_as_current_span("POST /moves"):
            again = await bus.execute(Move(), id="m1")
    assert again == first
    assert len(service.headers) == 1


async def test_an_event_that_is_published_outside_of_handlers_is_in_the_trace_of_its_request(
    spans: Spans,
) -> None:
    service = Service(spans, share=0.0)
    async with service as bus:
        await bus.publish(Opened(owner="Ada"))
        assert spans.all == []
        with spans.tracer.start_as_current_span("POST /accounts") as request:
            receipt = await bus.publish(Opened(owner="Ada"))
        (commit,) = await bus.runtime.event_log.find(receipt.id)
    published, stored = spans.one("publish Opened"), spans.one("store bank")
    assert is_child(published, request)
    assert is_child(stored, published)
    carried = contexts.read(commit.headers)
    assert carried is not None
    assert (carried.trace_id, carried.span_id) == place(published)


async def test_an_event_that_cannot_be_published_is_an_error(spans: Spans) -> None:
    service = Service(spans)
    async with service as bus:
        with pytest.raises(InvalidMessage):
            await bus.publish(Opened(owner="x" * 2_000_000))
    assert spans.one("publish Opened").status.status_code is StatusCode.ERROR


async def test_a_command_that_is_sent_carries_the_context_of_its_span(spans: Spans) -> None:
    async with Service(spans) as bus:
        tracer = bus.runtime.signals.tracer
        assert isinstance(tracer, SpanTracer)
        frame = command_frame(new_envelope(Move()))
        begun = tracer.sending(frame)
        assert begun is not None
        begun[1](None)
    span = spans.one("send bank.commands:command")
    assert (span.kind, span.parent) == (SpanKind.PRODUCER, None)
    sent = contexts.read(begun[0].headers)
    assert sent is not None
    assert (sent.trace_id, sent.span_id) == place(span)
    assert begun[0].headers["schema"] == 1


async def test_a_context_that_a_message_has_no_room_for_is_left_out(spans: Spans) -> None:
    service = Service(spans)
    full = {"much": "x" * (30 * 1024 - 20)}
    many = {f"h{number}": "" for number in range(90)}
    async with service as bus:
        for headers in (full, many):
            await bus.execute(Move(), headers=headers)
            await bus.send(Move(), headers=headers)
    assert service.headers == [full, many]
    assert len(spans.named("command Move")) == 2
    assert len(spans.named("send bank.commands:command")) == 2


async def test_the_lines_of_a_handler_name_its_span(spans: Spans) -> None:
    lines: list[Any] = []
    service = Service(spans)

    async def log(envelope: Envelope, following: Any) -> Any:
        lines.append(add_message(None, "info", {"event": "moved"}))
        return await following(envelope)

    service.bus = spans.of(
        Bus("bank", routers=[_moves()], settings=Settings.in_memory(), middleware=[log])
    )
    async with service as bus:
        await bus.execute(Move())
    trace, span = place(spans.one("command Move"))
    assert (lines[0]["trace_id"], lines[0]["span_id"]) == (f"{trace:032x}", f"{span:016x}")
    assert "trace_id" not in add_message(None, "info", {"event": "idle"})


def test_a_run_that_is_closed_from_another_context_has_its_span_ended(spans: Spans) -> None:
    begin = Told(spans).tracer.begin
    begun = copy_context().run(begin, CommandHandled, new_envelope(Move()), "move", 1, None)
    assert begun is not None
    begun[1](None)
    assert spans.one("command Move").end_time


def _moves() -> Router:
    moves = Router("moves")

    @moves.command
    async def move(command: Move) -> None:
        pass

    return moves


async def test_an_end_to_traces_ends_them(spans: Spans) -> None:
    async with Service(spans) as bus:
        assert bus.runtime.signals.tracer is not None
        uninstrument(bus)
        assert bus.runtime.signals.tracer is None
        await bus.execute(Move())
        spans.of(bus)
        assert bus.runtime.signals.tracer is not None
    assert bus.runtime.signals.tracer is None
    assert spans.all == []


async def test_openings_of_a_bus_share_a_tracer_until_the_last_one_ends(spans: Spans) -> None:
    service = Service(spans)
    async with service as bus:
        first = bus.runtime.signals.tracer
        async with bus.looking():
            assert bus.runtime.signals.tracer is first
        assert bus.runtime.signals.tracer is first
    assert bus.runtime.signals.tracer is None


async def test_work_of_the_bus_s_own_is_in_nobody_s_trace(spans: Spans) -> None:
    async def seen() -> tuple[bool, object, object]:
        current = ambient.get_current()
        suppressed = ambient.get_value(ambient._SUPPRESS_INSTRUMENTATION_KEY)
        return get_current_span().get_span_context().is_valid, bool(suppressed), bool(current)

    with spans.tracer.start_as_current_span("at start"):
        async with Service(spans) as bus:
            here: list[Any] = []

            async def look() -> None:
                here.append(await seen())

            await bus.runtime.loops.start(look, "looking")
            assert await apart(seen()) == (False, True, False)
            assert here == [(False, True, False)]
        assert await apart(seen()) == (False, False, False)


async def test_a_span_that_is_opened_in_quiet_work_has_the_command_in_it(spans: Spans) -> None:
    async with Service(spans, share=0.0) as bus:

        async def work() -> None:
            with spans.tracer.start_as_current_span("a span of a handler's own"):
                await bus.execute(Move())

        await bus.runtime.loops.start(work, "working")
    assert is_child(spans.one("command Move"), spans.one("a span of a handler's own"))


async def test_a_duty_of_the_service_is_in_nobody_s_trace_and_not_quiet(spans: Spans) -> None:
    seen = list[object]()

    async def keep_prices() -> None:
        seen.append(ambient.get_value(ambient._SUPPRESS_INSTRUMENTATION_KEY))
        with spans.tracer.start_as_current_span("prices"):
            seen.append(ambient.get_value(ambient._SUPPRESS_INSTRUMENTATION_KEY))

    async with Service(spans) as bus:
        with spans.tracer.start_as_current_span("at start"):
            async with Worker(bus, duties=[Duty("prices", keep_prices)]):
                await until(lambda: spans.named("prices"), "the duty has run")
    assert seen == [None, None]
    assert spans.one("prices").parent is None


class Told:
    """A tracer of a service "bank", to be told things."""

    def __init__(self, spans: Spans, **environment: str) -> None:
        url = "amqp://guest:guest@broker.example:5673/"
        conventions = Conventions("bank", url, environment)
        self.tracer = SpanTracer(spans.tracer, conventions, 1.0, spans.provider)
        self._spans = spans

    def batch(self, what: What, name: str, *traceparents: str, **fields: Any) -> list[ReadableSpan]:
        count = fields.pop("messages", len(traceparents))
        self.tracer.batch(Batch(what, name, 1.0, traceparents, count, **fields))
        return self._spans.all


def traceparents(count: int) -> list[str]:
    return [f"00-{number:032x}-{number:016x}-01" for number in range(1, count + 1)]


def test_a_batch_of_one_trace_is_one_child(spans: Spans) -> None:
    (span,) = Told(spans).batch(
        "send", "bank.events", SAMPLED, names=["account.Opened.3"], messages=5
    )
    assert (span.name, span.kind) == ("send bank.events:account.Opened", SpanKind.CLIENT)
    assert span.parent
    assert (span.parent.trace_id, span.parent.span_id) == THEIRS
    assert attributes(span)["messaging.batch.message_count"] == 5
    assert span.start_time == 1_000_000_000


def test_a_batch_is_one_span_with_links_and_a_child_in_each_trace(spans: Spans) -> None:
    (whole, *parts) = sorted(
        Told(spans).batch("project", "balances", *traceparents(5), messages=300, names=["E"] * 5),
        key=lambda span: span.kind is SpanKind.INTERNAL,
    )
    assert (whole.name, whole.kind, whole.parent) == ("project balances", SpanKind.CONSUMER, None)
    assert linked(whole) == [(number, number) for number in range(1, 6)]
    assert attributes(whole)["messaging.batch.message_count"] == 300
    assert [part.parent and part.parent.trace_id for part in parts] == [1, 2, 3, 4, 5]
    assert all(linked(part) == [place(whole)] for part in parts)


def test_a_batch_has_no_more_links_than_are_kept(spans: Spans) -> None:
    (span,) = Told(spans).batch("receive", "bank.mail", *traceparents(300))
    assert len(span.links) == 128
    assert span.links[0].context.trace_id == 1


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_late_is_linked_to(spans: Spans, count: int) -> None:
    late = [True] * count
    (span,) = Told(spans).batch("project", "balances", *traceparents(count), late=late)
    assert span.parent is None
    assert len(span.links) == count


def test_what_is_late_takes_no_span_from_the_others_of_its_batch(spans: Spans) -> None:
    now = clock.now()
    headers = [{"traceparent": context} for context in traceparents(4)]
    old, again, *others = (arrived(time=now)._replace(headers=one) for one in headers)
    frames = [old._replace(time=now - timedelta(seconds=301)), again._replace(address=""), *others]
    told = Told(spans)
    batch = batch_of("project", "balances", 1.0, frames, "", late=False)
    assert batch
    told.tracer.batch(batch)
    whole, *parts = sorted(spans.all, key=lambda span: span.parent is not None)
    assert [trace for trace, _ in linked(whole)] == [1, 2, 3, 4]
    assert [part.parent and part.parent.trace_id for part in parts] == [3, 4]
    assert all(linked(part) == [place(whole)] for part in parts)


def test_each_of_a_batch_has_its_own_name_beside_what_is_no_context(spans: Spans) -> None:
    first, second = traceparents(2)
    names = ["account.Opened.3", "account.Odd.3", "account.Closed.3"]
    Told(spans).batch("send", "bank.events", first, "nonsense-01", second, names=names)
    parts = {span.name: span.parent.trace_id for span in spans.all if span.parent}
    assert parts == {
        "send bank.events:account.Opened": 1,
        "send bank.events:account.Closed": 2,
    }


def test_work_that_nobody_asked_for_is_a_trace_of_its_own(spans: Spans) -> None:
    told = Told(spans)
    for what in ("sweep", "rebuild", "audit"):
        told.batch(what, "balances", messages=7)
    told.batch("relay", "bank", SAMPLED, messages=7)
    assert [span.name for span in spans.all] == [
        "sweep balances",
        "rebuild balances",
        "audit balances",
        "relay bank",
    ]
    assert all(span.parent is None for span in spans.all)
    assert linked(spans.all[-1]) == [THEIRS]


def test_of_what_is_not_sampled_there_are_no_spans(spans: Spans) -> None:
    told = Told(spans)
    for what in ("send", "receive", "settle", "project", "store", "relay"):
        told.batch(what, "bank", messages=7)
    assert spans.all == []


def test_what_could_not_be_sent_is_an_error(spans: Spans) -> None:
    (span,) = Told(spans).batch("send", "bank.events", SAMPLED, error="Unroutable")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "Unroutable"


def came(frame: Frame, **fields: Any) -> Delivery:
    return Delivery(frame, "bank.mail", 17, 1, exchange="bank.events", **fields)


def handled(told: Told, frame: Frame, attempt: int = 1) -> Envelope | None:
    envelope = Envelope(Opened(owner="Ada"), frame.id, frame.time, frame.correlation_id)
    headers = {key: str(value) for key, value in frame.headers.items() if key != "schema"}
    envelope = envelope._replace(headers=headers)
    begun = told.tracer.begin(EventHandled, envelope, "mail", attempt, came(frame))
    if begun is None:
        return None
    begun[1](None)
    return begun[0]


def arrived(**fields: Any) -> Frame:
    frame = command_frame(new_envelope(Move(), headers={"traceparent": SAMPLED}))
    return frame._replace(address="events", topic="account.Opened.3", name="Opened", **fields)


def test_a_message_that_a_worker_handles_is_a_child_of_who_made_it(spans: Spans) -> None:
    frame = arrived()
    envelope = handled(Told(spans), frame)
    span = spans.one("process bank.mail")
    assert span.kind is SpanKind.CONSUMER
    assert span.parent
    assert (span.parent.trace_id, span.parent.span_id) == THEIRS
    assert envelope
    assert contexts.read(envelope.headers) is not None
    assert envelope.headers["traceparent"] != SAMPLED
    expected = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "bank.events:account.Opened.3:bank.mail",
        "messaging.destination.template": "bank.mail",
        "messaging.rabbitmq.destination.routing_key": "account.Opened.3",
        "messaging.rabbitmq.message.delivery_tag": 17,
        "messaging.message.id": frame.id,
        "messaging.message.conversation_id": frame.correlation_id,
        "server.address": "broker.example",
        "server.port": 5673,
        "bus.message": "Opened",
        "bus.handler": "mail",
        "bus.attempt": 1,
        "bus.outcome": "done",
    }
    assert attributes(span) == expected | {
        "bus.queue.seconds": attributes(span)["bus.queue.seconds"]
    }


@pytest.mark.parametrize("why", ["a second try", "sent again"])
def test_a_later_try_is_a_trace_of_its_own_with_a_link(spans: Spans, why: str) -> None:
    again = why == "a second try"
    handled(Told(spans), arrived() if again else arrived()._replace(address=""), 2 if again else 1)
    span = spans.one("process bank.mail")
    assert (span.parent, linked(span)) == (None, [THEIRS])


def test_a_message_that_does_not_say_when_it_was_made_is_not_late(spans: Spans) -> None:
    frame = arrived()._replace(time=EPOCH)
    handled(Told(spans), frame)
    span = spans.one("process bank.mail")
    assert span.parent
    assert (span.parent.trace_id, span.parent.span_id) == THEIRS
    assert attributes(span)["bus.queue.seconds"] == 0
    batch = batch_of("receive", "bank.mail", 1.0, [frame], "", late=False)
    assert batch
    assert batch.age == 0


def test_a_message_of_a_bus_without_a_trace_has_no_span_and_a_stranger_s_has(
    spans: Spans,
) -> None:
    frame = arrived()
    without = {key: value for key, value in frame.headers.items() if key != "traceparent"}
    assert handled(Told(spans), frame._replace(headers=without)) is None
    assert handled(Told(spans), frame._replace(headers={"traceparent": NOT_SAMPLED})) is None
    assert spans.all == []
    assert handled(Told(spans), frame._replace(headers={})) is not None
    assert spans.one("process bank.mail").parent is None


def test_a_stranger_s_message_with_no_context_begins_a_trace_by_the_share(spans: Spans) -> None:
    told = Told(spans)
    told.tracer.share = 0.0
    assert handled(told, arrived()._replace(headers={"traceparent": "anything"})) is None
    told.tracer.share = 1.0
    assert handled(told, arrived()._replace(headers={"traceparent": "anything"})) is not None


@pytest.mark.parametrize("chosen", ["", "messaging", "http,messaging/dup", "messaging/dup"])
def test_former_names_of_attributes_are_added_if_they_are_asked_for(
    spans: Spans, chosen: str
) -> None:
    handled(Told(spans, OTEL_SEMCONV_STABILITY_OPT_IN=chosen), arrived())
    found = attributes(spans.one("process bank.mail"))
    assert found["messaging.operation.type"] == "process"
    former = {"messaging.operation", "net.peer.name", "net.peer.port"} & found.keys()
    assert len(former) == (3 if "dup" in chosen else 0)


async def test_a_tracer_that_raises_harms_nobody(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no")

    with capture_logs() as lines:
        service = Service(spans)
        async with service as bus, Worker(bus):
            tracer = bus.runtime.signals.tracer
            assert isinstance(tracer, SpanTracer)
            monkeypatch.setattr(tracer, "_tracer", None)
            monkeypatch.setattr(tracer, "_batches", None)
            await bus.execute(Move())
            await bus.request(Move(), headers={"traceparent": SAMPLED})
            await bus.publish(Opened(owner="Ada"))
    assert len(service.headers) == 2
    failed = [line for line in lines if line["log_level"] in ("warning", "error")]
    assert {line["event"] for line in failed} == {"listener_failed"}
