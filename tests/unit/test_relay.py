import asyncio
from typing import Any

from bus.stores.memory import MemoryEventLog, MemoryReadStore
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
