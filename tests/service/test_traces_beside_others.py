"""Traces beside the instrumentations of aio-pika and PyMongo: no span twice, none of idle polls."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.aio_pika import AioPikaInstrumentor
from opentelemetry.instrumentation.pymongo import CommandTracer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from pymongo import monitoring

from bus import Settings, Worker
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.spans import Spans, place, recorded
from tests.waiting import until

MONGODB = "pymongo"

pytestmark = pytest.mark.real_time


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Those of the bus and of both instrumentations, which are switched off again.

    PyMongo's keeps the first provider that it is given, so its listener is registered as it does.
    """
    with recorded() as spans:
        rabbitmq, mongodb = AioPikaInstrumentor(), CommandTracer(spans.provider.get_tracer(MONGODB))
        rabbitmq.instrument(tracer_provider=spans.provider, skip_dep_check=True)
        monitoring.register(mongodb)
        try:
            yield spans
        finally:
            rabbitmq.uninstrument()
            monitoring._LISTENERS.command_listeners.remove(mongodb)


def of_mongodb(spans: Spans) -> list[ReadableSpan]:
    scopes = ((span, span.instrumentation_scope) for span in spans.all)
    return [span for span, scope in scopes if scope and scope.name == MONGODB]


async def test_each_message_has_one_span_where_it_is_sent_and_one_where_it_is_handled(
    real_settings: Settings, unique: str, spans: Spans
) -> None:
    bus = spans.of(build(real_settings, Diary(), unique))
    async with bus, Worker(bus):
        spans.clear()
        await bus.send(Pay(wallet_id="a", amount=1))
        await until(lambda: spans.named("project wallets"), "it is projected")
        await until(lambda: spans.named(f"process {unique}.thanking"), "it is handled")
        await until(lambda: spans.named(f"send {unique}.events:wallet.Paid"), "it was sent")
    producing = {SpanKind.PRODUCER, SpanKind.CONSUMER}
    assert sorted(span.name for span in spans.all if span.kind in producing) == sorted(
        [
            f"send {unique}.commands:command",
            f"process {unique}.commands",
            f"process {unique}.thanking",
            "project wallets",
        ]
    )
    assert len(spans.named(f"send {unique}.events:wallet.Paid")) == 1
    scopes = {span.instrumentation_scope.name for span in spans.all if span.instrumentation_scope}
    assert not [scope for scope in scopes if "aio_pika" in scope]


async def test_spans_of_mongodb_are_beneath_those_of_handlers_and_none_of_idle_polls(
    real_settings: Settings, unique: str, spans: Spans
) -> None:
    settings = real_settings.model_copy(update={"sweep_every": 0.2})
    bus = spans.of(build(settings, Diary(), unique))
    async with bus, Worker(bus):
        with spans.tracer.start_as_current_span("POST /payments") as request:
            receipt = await bus.execute(Pay(wallet_id="a", amount=1))
            await bus.query(GetWallet(wallet_id="a"), after=receipt)
        await until(lambda: spans.named(f"ack {unique}.wallets"), "it is projected")
        await until(lambda: spans.named(f"ack {unique}.thanking"), "it is handled")
        await until(lambda: spans.named(f"send {unique}.events:wallet.Paid"), "it was sent")
        query = spans.one("query GetWallet")
        read = [one for one in of_mongodb(spans) if one.parent and one.name.endswith(".find")]
        assert place(query)[1] in {one.parent.span_id for one in read if one.parent}
        assert {place(one)[0] for one in of_mongodb(spans) if one.parent} == {place(request)[0]}
        spans.clear()
        await asyncio.sleep(3)  # for relay, sweeps, leases and health to take turns
        await bus.health()
        assert [span.name for span in spans.all] == []
