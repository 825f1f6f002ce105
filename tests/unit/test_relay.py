import asyncio
from datetime import timedelta
from typing import Any

from bus import ambient
from bus.stores.base import Commit, Recorded
from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.transports.memory import MemoryBroker, MemoryTransport
from bus.write.publisher import Publisher
from bus.write.relay import Relay
from tests.waiting import until


async def test_a_relay_that_ends_leaves_its_place_to_the_next_at_once() -> None:
    places = MemoryReadStore()
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
    a_while_ago = ambient.now() - timedelta(minutes=1)
    opened = Recorded("Opened", 1, {})
    odd = Commit("odd", "account-a", "account", 1, (opened,), a_while_ago, "c" * 300)
    empty = Commit("empty", "account-b", "account", 1, (), a_while_ago, "c")
    good = Commit("good", "account-c", "account", 1, (opened,), a_while_ago, "c")
    for commit in (odd, empty, good):
        await log.append([commit])
    assert await Relay(log, publisher, MemoryReadStore()).relay_once()
    assert await log.pending(ambient.now(), 10) == [odd]
