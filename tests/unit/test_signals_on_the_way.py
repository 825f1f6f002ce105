"""What a worker takes, settles and sends is heard; a tracer hears it of the messages of a trace."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from bus import Bus, InvalidMessage, Projection, Projections, Settings, Update, Worker, signals
from bus.codec import record
from bus.common import clock
from bus.delivery.consumer import age_of
from bus.messages import Envelope
from bus.observe.signals import HandlerRun, Signal
from bus.observe.tracer import Batch, Ended, context_of
from bus.read.sweeper import Sweeper
from bus.stores.event_log import Commit
from bus.transports.base import EPOCH, Delivery, Frame
from bus.write.relay import Relay
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.unit.accounts import Account, Opened, View
from tests.waiting import until

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = f"{SAMPLED[:-1]}0"

pytestmark = pytest.mark.real_time


class Heard(list[Signal]):
    """All that happens on a bus."""

    def __init__(self, bus: Bus) -> None:
        bus.listen(Signal, self.append)

    def of(self, kind: type[Signal]) -> list[Any]:
        return [one for one in self if type(one) is kind]


class Noting:
    """A tracer that begins no trace, and notes what it is told."""

    share = 0.0

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, bool]] = []
        self.sent: list[str] = []
        self.ended: list[BaseException | None] = []
        self.batches: list[Batch] = []

    @property
    def ambient(self) -> Callable[[], object]:
        return lambda: None

    def begin(
        self,
        kind: type[HandlerRun],
        envelope: Envelope,
        handler: str,
        attempt: int,
        came: Delivery | None,
    ) -> tuple[Envelope, Ended] | None:
        self.begun.append((envelope.name, envelope.id, came is not None))
        assert came is None or came.frame.id == envelope.id
        return None

    def sending(self, frame: Frame) -> tuple[Frame, Ended] | None:
        self.sent.append(frame.name)
        headers = {**frame.headers, "traceparent": SAMPLED}
        return frame._replace(headers=headers), self.ended.append

    def batch(self, what: Batch) -> None:
        self.batches.append(what)

    def of(self, what: str) -> list[Batch]:
        return [batch for batch in self.batches if batch.what == what]


async def test_what_a_worker_takes_and_settles_is_heard_with_what_became_of_it(
    unique: str,
) -> None:
    bus = build(Settings.in_memory(), Diary(), unique)
    heard, queue = Heard(bus), f"{unique}.thanking"

    def settled(outcome: str) -> int:
        return sum(
            one.messages
            for one in heard.of(signals.Settled)
            if (one.queue, one.outcome) == (queue, outcome)
        )

    async with bus, Worker(bus):
        for mood in ("grateful", "rejects", "later"):
            await bus.execute(Pay(wallet_id="a", amount=1, mood=mood))
        for outcome in ("given_up", "put_off", "done"):
            await until(partial(settled, outcome), outcome)
    received = [one for one in heard.of(signals.Received) if one.queue == queue]
    assert sum(one.messages for one in received) >= 3
    assert all(one.size > 0 and 0 <= (one.oldest or 0) < 600 for one in received)
    assert any(one.oldest is not None for one in received)
    assert sum(one.redelivered for one in received) == 0
    projected = [one for one in heard.of(signals.BatchProjected) if one.events]
    assert sum(one.events for one in projected) >= 3
    assert all(0 <= one.oldest < 600 for one in projected)


async def test_what_is_sent_and_requested_is_heard(unique: str) -> None:
    bus = build(Settings.in_memory(), Diary(), unique)
    heard = Heard(bus)
    async with bus, Worker(bus):
        id = await bus.send(Pay(wallet_id="a", amount=1))
        await bus.request(Pay(wallet_id="a", amount=1), id="c2")
        with pytest.raises(InvalidMessage):
            await bus.send(Pay(wallet_id="a", amount=1, mood="x" * 2_000_000))
    sent = heard.of(signals.Sent)
    assert [(one.message_id, one.answered, one.error) for one in sent[:2]] == [
        (id, False, ""),
        ("c2", True, ""),
    ]
    assert [one.error for one in sent[2:]] == ["InvalidMessage"]


async def test_the_age_of_a_batch_is_that_of_its_oldest_event_that_was_applied() -> None:
    owners = Projection("owners", of=[Account], view=View)

    @owners.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    bus = Bus("bank", projections=[owners], settings=Settings.in_memory())
    heard = Heard(bus)

    def event(stream: str, minutes: int) -> Envelope:
        time = clock.now() - timedelta(minutes=minutes)
        return Envelope(Opened(owner="Ada"), stream, time, "c", None, stream, 1)

    async with bus:
        projector = bus.runtime.projector(owners, owners.target(), "test")
        await projector.apply([event("account-a", 5), event("account-b", 1)])
        await projector.apply([event("account-a", 5), event("account-c", 2)])
        await projector.apply([event("account-a", 5)])
        await projector.close()
    ages = [one.oldest for one in heard.of(signals.BatchProjected)]
    assert [round(age / 60) for age in ages] == [5, 2, 0]


async def test_a_tracer_hears_the_way_of_a_trace_and_nothing_of_others(unique: str) -> None:
    bus, tracer = build(Settings.in_memory(), Diary(), unique), Noting()
    bus._signals.trace(tracer)
    async with bus, Worker(bus):
        for context in (SAMPLED, NOT_SAMPLED):
            receipt = await bus.execute(
                Pay(wallet_id=context[-2:], amount=1, mood="grateful"),
                headers={"traceparent": context},
            )
            await bus.query(GetWallet(wallet_id=context[-2:]), after=receipt)
        await until(lambda: len(tracer.of("settle")) >= 3, "all is settled")
        await until(lambda: tracer.of("project"), "projected")
        begun = {(name, came) for name, _, came in tracer.begun}
    assert begun >= {("Pay", False), ("Paid", True), ("Thank", True)}
    assert {batch.name for batch in tracer.of("send")} == {f"{unique}.events", f"{unique}.commands"}
    events, commands = (
        {topic for one in tracer.of("send") if one.name.endswith(address) for topic in one.names}
        for address in ("events", "commands")
    )
    assert events.isdisjoint(commands)
    assert {batch.name for batch in tracer.of("project")} == {"wallets"}
    assert {batch.name for batch in tracer.of("receive")} >= {f"{unique}.thanking"}
    of_messages = [one for one in tracer.batches if one.what != "store"]
    assert {context for batch in of_messages for context in batch.contexts} == {SAMPLED}
    assert all(len(batch.contexts) == len(batch.names) for batch in of_messages)
    assert all(0 <= batch.age < 60 for batch in of_messages)
    stored = tracer.of("store")
    assert {tuple(batch.contexts) for batch in stored} == {(SAMPLED,)}


async def test_a_tracer_changes_what_is_sent_and_hears_when_that_ended(unique: str) -> None:
    bus, tracer = build(Settings.in_memory(), Diary(), unique), Noting()
    bus._signals.trace(tracer)
    async with bus, Worker(bus):
        await bus.send(Pay(wallet_id="a", amount=1))
        await until(lambda: [one for one in tracer.begun if one[0] == "Pay"], "it came traced")
        await bus.request(Pay(wallet_id="a", amount=1))
        with pytest.raises(InvalidMessage):
            await bus.send(Pay(wallet_id="a", amount=1, mood="x" * 2_000_000))
    assert tracer.sent == ["Pay"] * 3
    assert [type(error).__name__ for error in tracer.ended] == [
        "NoneType",
        "NoneType",
        "InvalidMessage",
    ]


async def test_a_tracer_hears_of_relays_and_sweeps_that_did_something() -> None:
    owners = Projection("owners", of=[Account], view=View)

    @owners.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    bus, tracer = Bus("bank", projections=[owners], settings=Settings.in_memory()), Noting()
    bus._signals.trace(tracer)
    heard = Heard(bus)
    async with bus:
        runtime = bus.runtime
        relay = Relay(runtime.event_log, runtime.publisher, runtime.control)
        projector = runtime.projector(owners, owners.target(), "sweeping")
        sweeper = Sweeper(projector, runtime.read_log, runtime.collections, runtime.control)
        assert not await relay.relay_once()
        assert not await sweeper.sweep()
        assert tracer.batches == []
        commits: Sequence[Commit] = [
            Commit(
                "c",
                "account-a",
                "account",
                1,
                (record(Opened(owner="Ada")),),
                clock.now() - timedelta(minutes=1),
                "c",
                headers={"traceparent": SAMPLED},
            )
        ]
        await runtime.event_log.append(commits)
        assert await relay.relay_once()
        assert await sweeper.sweep()
        await projector.close()
        assert (await Projections(bus).audit("owners")).is_right
    (relayed,) = tracer.of("relay")
    assert (relayed.name, relayed.messages, relayed.contexts) == ("bank", 1, [SAMPLED])
    (swept,) = tracer.of("sweep")
    assert (swept.name, swept.messages) == ("owners", 1)
    (audit,) = heard.of(signals.ProjectionAudited)
    assert (audit.projection, audit.documents, audit.differences) == ("owners", 1, 0)
    assert [batch.name for batch in tracer.of("audit")] == ["owners"]


@pytest.mark.parametrize(
    ("headers", "context"),
    [
        ({}, ""),
        ({"traceparent": SAMPLED}, SAMPLED),
        ({"traceparent": NOT_SAMPLED}, ""),
        ({"traceparent": f"{SAMPLED[:-1]}3"}, f"{SAMPLED[:-1]}3"),
        ({"traceparent": 1}, ""),
        ({"traceparent": ""}, ""),
    ],
)
def test_a_context_counts_if_it_is_sampled(headers: dict[str, str | int], context: str) -> None:
    assert context_of(headers) == context


def test_what_was_meant_to_wait_is_not_late_nor_what_does_not_say_when_it_was_made() -> None:
    old, new = (clock.now() - timedelta(seconds=seconds) for seconds in (600, 60))

    def came(address: str, time: datetime) -> Frame:
        return Frame(address, "Paid", "1", "Paid", b"{}", time, "1")

    meant = [came("", old), came("dead", old), came("events", EPOCH)]
    assert age_of(meant) is None
    assert age_of([*meant, came("events", new)]) == pytest.approx(60, abs=30)
    assert age_of([*meant, came("commands", old)]) == pytest.approx(600, abs=30)
