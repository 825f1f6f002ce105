"""What comes to the dead queue, whoever put it there."""

import re
from collections.abc import AsyncIterator

import pytest

from bus import Bus, DeadLetters, Fault, InvalidMessage, Settings
from bus.codec import RETURNED, read_recorded
from bus.common import clock
from bus.delivery.drain import DeadQueueConsumer
from bus.delivery.trust import Trust
from bus.failures.give_up import MOST_DATA, GiveUp
from bus.transports.base import DEATH_QUEUE, DEATH_REASON, Delivery, Frame
from bus.transports.topology import dead_queue, requests_queue
from tests.service.wallet import Pay, build


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with build(Settings.in_memory()) as bus:
        yield bus


def died(number: int, queue: str, name: str = "Pay", **headers: str | int) -> Delivery:
    full: dict[str, str | int] = {DEATH_QUEUE: queue, DEATH_REASON: "expired", **headers}
    frame = Frame("dead", "", f"m{number}", name, b"{}", clock.now(), "c", full)
    return Delivery(frame, "wallets.dead", number, 1)


async def drain(bus: Bus, *deliveries: Delivery) -> None:
    runtime = bus.runtime
    consumer = DeadQueueConsumer(
        dead_queue("wallets"), runtime.transport, GiveUp(runtime), Trust(runtime)
    )
    await consumer.process(deliveries)


async def test_a_retry_publishes_to_no_queue_that_a_header_names_of_another_service(
    bus: Bus,
) -> None:
    await drain(bus, died(1, "wallets.commands"), died(2, "bank.commands"), died(3, "walletsx.a"))
    letters = {one.message_id: one for one in await DeadLetters(bus).list()}
    assert {id: one.queue for id, one in letters.items()} == {
        "m1": "wallets.commands",
        "m2": "wallets.dead",
        "m3": "wallets.dead",
    }


async def test_a_letter_that_names_a_queue_of_another_service_is_not_retried(bus: Bus) -> None:
    """As a release stored it that believed the header."""
    await drain(bus, died(1, "wallets.commands"))
    (letter,) = await bus.runtime.control.dead_letters()
    await bus.runtime.control.add_dead_letter({**letter, "_id": "x.y/1", "queue": "bank.commands"})
    outcome = await DeadLetters(bus).retry("x.y/1")
    assert outcome.done == ()
    assert "is not a queue of this service" in outcome.failed["x.y/1"]


async def test_what_nobody_counts_is_given_back_once(bus: Bus) -> None:
    limit: dict[str, str | int] = {DEATH_REASON: "delivery_limit"}
    await drain(bus, died(1, requests_queue("wallets").name, "Pay", **limit))
    assert await bus.runtime.control.dead_letters() == []
    await drain(bus, died(1, requests_queue("wallets").name, "Pay", **limit | {RETURNED: 1}))
    (letter,) = await bus.runtime.control.dead_letters()
    assert letter["error"] == "DeliveryLimitReached"


async def test_an_event_that_is_not_in_the_log_did_not_die_here(bus: Bus) -> None:
    headers: dict[str, str | int] = {"stream": "wallet-a", "version": 1, "schema": 1}
    await drain(bus, *(died(n, "wallets.thanking", "Paid", **headers) for n in range(150)))
    letters = await bus.runtime.control.dead_letters(1000)
    assert {one["error"] for one in letters} == {"NotInTheLog"}
    assert sum(one["seen"] for one in letters) == 150
    assert len(letters) == 101
    assert [one async for one in bus.runtime.event_log.scan(["wallets"])] == []


async def test_of_many_messages_that_nobody_could_read_some_are_told_as_faults(bus: Bus) -> None:
    await drain(bus, *(died(n, "wallets.commands") for n in range(150)))
    assert len(await bus.runtime.control.dead_letters(1000)) == 150
    faults = [one async for one in bus.runtime.event_log.scan(["wallets"])]
    assert len(faults) == 100


async def fault_of(bus: Bus, body: bytes, schema: int = 1) -> Fault:
    delivery = died(1, "wallets.commands", schema=schema)
    await drain(bus, delivery._replace(frame=delivery.frame._replace(body=body)))
    (commit,) = [one async for one in bus.runtime.event_log.scan(["wallets"])]
    fault = read_recorded(commit.events[0], {"Fault": Fault})
    assert isinstance(fault, Fault)
    return fault


async def test_a_fault_of_what_expired_holds_its_data(bus: Bus) -> None:
    fault = await fault_of(bus, b'{"amount": 3}', schema=2)
    assert (fault.error, fault.data, fault.data_schema) == ("Expired", {"amount": 3}, 2)
    assert (fault.stream, fault.version, fault.left_out) == ("", 0, "")


DEEP = b'{"a": ' * 50 + b"1" + b"}" * 50


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'"' + b"x" * MOST_DATA + b'"', "too large: 262,146 bytes, over 262,144"),
        (b"no json", "cannot be read: Pay: no JSON"),
        (b'{"$ref": 1}', "cannot be read: Pay: a key begins with \\$"),
        (b"[1]", "cannot be read: not a JSON object"),
        (DEEP, "cannot be read: Pay.data.a.*: nested more than 50 levels deep"),
    ],
)
async def test_a_fault_says_why_it_leaves_the_data_out(bus: Bus, body: bytes, why: str) -> None:
    fault = await fault_of(bus, body)
    assert fault.data is None
    assert re.match(why, fault.left_out)
    with pytest.raises(InvalidMessage, match=f"no data of the Pay .{why[:15]}"):
        fault.original(Pay)
    (letter,) = await bus.runtime.control.dead_letters()
    assert (letter["_id"], letter["body"]) == (fault.dead_letter, body)
