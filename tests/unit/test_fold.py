"""What a batch changes, where the log has to be asked."""

import asyncio
from collections.abc import Sequence

from bus import ambient
from bus.codec import record
from bus.read.projector import Projector
from bus.stores.base import Commit
from bus.stores.memory import MemoryEventLog, MemoryReadStore
from bus.testing.projection_contract import Deposited, Opened, accounts

STREAMS = [f"account-{number}" for number in range(5)]


class MeetingLog(MemoryEventLog):
    """Answers a read only once all streams are being read."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = asyncio.Barrier(len(STREAMS))

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        async with self.meeting:
            return await super().read(stream, after, limit)


async def projector_on(log: MemoryEventLog) -> tuple[Projector, MemoryReadStore]:
    projection = accounts()
    store = MemoryReadStore()
    await store.open()
    await store.prepare(projection.target())
    target = projection.target()
    return Projector(projection, target, log, store, store.writer(target, "q")), store


def stored(stream: str, events: Sequence[Opened | Deposited]) -> Commit:
    recorded = tuple(record(event) for event in events)
    return Commit(ambient.new_id(), stream, "account", 1, recorded, ambient.now(), "c")


async def test_the_gaps_of_a_batch_are_healed_at_once_and_not_one_after_the_other() -> None:
    log = MeetingLog()
    for stream in STREAMS:
        await log.append([stored(stream, [Opened(owner="Ada"), Deposited(amount=7)])])
    projector, store = await projector_on(log)
    async with asyncio.timeout(5):
        applied = await projector.apply_streams(STREAMS)
    assert applied.healed == 2 * len(STREAMS)
    reached = await store.versions(projector.target, STREAMS)
    assert reached == dict.fromkeys(STREAMS, 2)
