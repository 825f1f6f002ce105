"""What is pruned is not in use, and nothing is done to the messages of what stays."""

from typing import Any

import pytest

from bus.transports.rabbitmq.moving import draining
from bus.transports.rabbitmq.planning.change import Change
from bus.transports.rabbitmq.planning.pruning import Removed, remove
from tests.unit.faking_broker import FakeBroker, FakeQueue

BOUND = ("bank.events", "*.Paid.*")
DELAYS = ["delay"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "SILENCE", 0.01)


def orphan(name: str, *bindings: tuple[str, str]) -> Change:
    bound = {exchange: [topic] for exchange, topic in bindings}
    return Change("-", "queue", name, "nobody declares it", "prune it", was=bound)


async def pruned(broker: Any, *names: str, **options: Any) -> Removed:
    changes = [orphan(name, BOUND) for name in names]
    return await remove(broker, changes, delays=DELAYS, **options)


async def test_the_retries_of_a_queue_that_is_consumed_stay_in_their_delay() -> None:
    broker = FakeBroker(old=FakeQueue(consumers=1), delay=FakeQueue("old", "old", "other"))
    kept, gone = await pruned(broker, "old", with_messages=True)
    assert [stays.why for stays in kept] == ["it is consumed (1): stop what consumes it"]
    assert broker.queues["delay"].messages == ["old", "old", "other"]
    assert ("consume", "delay") not in broker.calls, "no delay begins anew"
    assert not gone


async def test_delays_are_looked_through_once_for_all_queues_and_what_comes_back_keeps_one() -> (
    None
):
    broker = FakeBroker(
        one=FakeQueue(), two=FakeQueue(), three=FakeQueue("x"), delay=FakeQueue("two", "other")
    )
    kept, _ = await pruned(broker, "one", "two", "three")
    assert {stays.change.name: stays.why.partition(":")[0] for stays in kept} == {
        "two": "1 messages in delays come back to it",
        "three": "it holds 1 messages",
    }
    assert broker.calls.count(("consume", "delay")) == 1
    assert broker.queues["delay"].messages == ["two", "other"]
    assert "one" not in broker.queues


async def test_what_comes_back_is_dropped_only_with_messages_and_counted() -> None:
    broker = FakeBroker(old=FakeQueue("a"), delay=FakeQueue("old", "other", "old"))
    kept, gone = await pruned(broker, "old", with_messages=True)
    assert (kept, gone) == ([], {"old": 3})
    assert broker.queues["delay"].messages == ["other"]


async def test_a_delay_that_is_missing_brings_nothing_back() -> None:
    broker = FakeBroker(old=FakeQueue())
    assert await pruned(broker, "old") == ([], {})
    assert not broker.queues


async def test_a_message_that_comes_after_the_look_keeps_the_queue_and_its_bindings() -> None:
    broker = FakeBroker(old=FakeQueue(bound=BOUND), delay=FakeQueue())

    def comes(call: str) -> None:
        if call == "unbind":
            broker.queues["old"].messages.append("x")

    broker.before = comes
    (stays,), gone = await pruned(broker, "old")
    assert stays.why == "it holds 1 messages: give --with-messages to lose them"
    assert broker.queues["old"].bindings == {BOUND}
    assert not gone


async def test_a_message_that_is_deleted_with_a_queue_is_told() -> None:
    broker = FakeBroker(old=FakeQueue(bound=BOUND))

    def comes(call: str) -> None:
        if call == "delete":
            assert not broker.queues["old"].bindings
            broker.queues["old"].messages.append("x")

    broker.before = comes
    assert await pruned(broker, "old") == ([], {"old": 1})


async def test_a_queue_in_which_rabbitmq_holds_messages_back_stays_but_for_with_messages() -> None:
    broker = FakeBroker(old=FakeQueue())
    (stays,), _ = await pruned(broker, "old", hiding=["old"])
    assert "delayed-retry-type" in stays.why
    assert await pruned(broker, "old", hiding=["old"], with_messages=True) == ([], {})
