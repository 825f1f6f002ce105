"""What a batch changes, where the log has to be asked."""

import asyncio
from collections.abc import Sequence

import pytest

from bus.codec import record
from bus.common import clock
from bus.read.projector import Projector
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.testing.contracts.projection_contract import Deposited, Opened, accounts

STREAMS = [f"account-{number}" for number in range(5)]


class MeetingLog(MemoryEventLog):
    """Answers a read only once all streams are being read."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = asyncio.Barrier(len(STREAMS))

    async def read(self, stream: str, after: int = 0, limit: int = 0) -> list[Commit]:
        async with self.meeting:
            return await super().read(stream, after, limit)


async def projector_on(log: MemoryEventLog) -> tuple[Projector, MemoryCollections]:
    projection = accounts()
    target = projection.target()
    collections = MemoryCollections()
    await collections.prepare(target)
    writer = collections.writer(target, "q")
    projector = Projector(projection, target, log, collections, MemoryControl(), writer)
    return projector, collections


def stored(stream: str, events: Sequence[Opened | Deposited]) -> Commit:
    recorded = tuple(record(event) for event in events)
    return Commit(clock.new_id(), stream, "account", 1, recorded, clock.now(), "c")


async def test_the_gaps_of_a_batch_are_healed_at_once_and_not_one_after_the_other() -> None:
    log = MeetingLog()
    for stream in STREAMS:
        await log.append([stored(stream, [Opened(owner="Ada"), Deposited(amount=7)])])
    projector, store = await projector_on(log)
    async with asyncio.timeout(30):
        applied = await projector.apply_streams(STREAMS)
    assert applied.healed == 2 * len(STREAMS)
    reached = await store.versions(projector.target, STREAMS)
    assert reached == dict.fromkeys(STREAMS, 2)


async def test_events_of_names_that_nobody_knows_are_counted_and_warned_of_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = MemoryEventLog()
    plain, collections = await projector_on(log)
    projector = Projector(
        plain.projection,
        plain.target,
        log,
        collections,
        MemoryControl(),
        collections.writer(plain.target, "q"),
        known_names={"Opened", "Noted"},
    )
    unread = [Recorded("Forgotten", 1, {}), Recorded("Noted", 1, {})]
    for number in range(12):
        one = stored(f"account-{number}", [Opened(owner="Ada")])
        await log.append([one._replace(events=(*one.events, *unread))])
        await projector.apply_streams([one.stream])
    assert projector.unknown == {"Forgotten": 12}
    assert await collections.versions(projector.target, ["account-11"]) == {"account-11": 3}
    warned = [line for line in capsys.readouterr().err.splitlines() if "unknown_events" in line]
    assert len(warned) == 2
    assert "Forgotten" in warned[0]
    await plain.apply_streams(["account-0"])
    assert plain.unknown == {}
