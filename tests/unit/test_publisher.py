"""The publisher, over the in-memory pair."""

from bus import ambient
from bus.codec import frames_of
from bus.stores.base import Commit, Recorded
from bus.stores.memory import MemoryEventLog
from bus.transports.memory import MemoryBroker, MemoryTransport
from bus.write.publisher import Publisher


async def test_nothing_is_published_before_the_queues_are_declared() -> None:
    """The broker would confirm an event that no queue takes yet, and its mark would go."""
    log, transport = MemoryEventLog(), MemoryTransport(MemoryBroker(), "bank")
    await transport.open()
    publisher = Publisher(log, transport)
    event = Recorded("Opened", 1, {})
    commit = Commit("c1", "account-a", "account", 1, (event,), ambient.now(), "c1")
    await log.append([commit])
    later = ambient.now().replace(year=2999)
    assert await publisher.publish([commit], [frames_of(commit)]) == 0
    assert await log.pending(later, 10) == [commit]
    publisher.start()
    assert await publisher.publish([commit], [frames_of(commit)]) == 1
    assert await log.pending(later, 10) == []
