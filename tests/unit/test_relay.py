import asyncio
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

from bus.common import clock
from bus.stores.event_log import Commit, Outgoing, Recorded
from bus.stores.memory import MemoryControl, MemoryEventLog
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from bus.write.publisher import Publisher
from bus.write.relay import BATCH, GRACE, Relay
from tests.waiting import until


async def test_a_relay_that_ends_leaves_its_place_to_the_next_at_once() -> None:
    places = MemoryControl()
    nobody: Any = None
    relay = asyncio.create_task(Relay(MemoryEventLog(), nobody, places).run())

    async def taken() -> bool:
        return not await places.lease("relay", "another", 0)

    await until(taken, "the relay to take its place")
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)
    assert await places.lease("relay", "another", 10)


async def test_a_stored_commit_that_may_not_travel_holds_up_no_other() -> None:
    log, transport = MemoryEventLog(), MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    publisher = Publisher(log, transport)
    publisher.start()
    a_while_ago = clock.now() - timedelta(minutes=1)
    opened = Recorded("Opened", 1, {})
    odd = Commit("odd", "account-a", "account", 1, (opened,), a_while_ago, "c" * 300)
    empty = Commit("empty", "account-b", "account", 1, (), a_while_ago, "c")
    good = Commit("good", "account-c", "account", 1, (opened,), a_while_ago, "c")
    for commit in (odd, empty, good):
        await log.append([commit])
    relay = Relay(log, publisher, MemoryControl())
    with capture_logs() as lines:
        assert await relay.relay_once()
        for _ in range(3):
            assert not await relay.relay_once()
    assert await log.pending(clock.now(), 10) == [odd]
    shown = [line["event"] for line in lines if line["log_level"] != "debug"]
    assert shown == ["commit_unpublishable"]


async def test_many_that_nobody_takes_hold_up_none_behind_them() -> None:
    log, transport = MemoryEventLog(), MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    publisher = Publisher(log, transport)
    publisher.start()
    relay = Relay(log, publisher, MemoryControl())
    command = Outgoing("k", "Pay", 1, {})
    start = clock.now() - timedelta(minutes=1)
    for number in range(BATCH + 10):
        time = start + timedelta(milliseconds=number // 100)
        stuck = Commit(f"s{number}", f"bank-{number}", "bank", 1, (), time, "c")
        await log.append([stuck._replace(outgoing=(command._replace(id=f"k{number}"),))])
    opened = Recorded("Opened", 1, {})
    good = Commit("good", "account-c", "account", 1, (opened,), clock.now() - GRACE * 2, "c")
    await log.append([good])

    async def relayed() -> bool:
        await relay.relay_once()
        return good not in await log.pending(clock.now(), 10_000)

    await until(relayed, "the one behind those that are stuck to be published")
    assert len(await log.pending(clock.now(), 10_000)) == BATCH + 10
