"""A metric: commands by name and by what came of them, and how large a projection's batches are.

It is all that one needs; no other room is touched. `Metrics(bus)` is written where the bus is
built.
"""

from collections import Counter, defaultdict

import pytest

from bus import AggregateNotFound, Bus, Settings, Worker, signals
from tests.service.wallet import Diary, GetWallet, Pay, Thank, build
from tests.waiting import until


class Metrics:
    """What a scraper would read."""

    def __init__(self, bus: Bus) -> None:
        self.commands = Counter[tuple[str, str]]()
        self.seconds = defaultdict[str, float](float)
        self.batches = defaultdict[str, list[int]](list)
        bus.listen(signals.CommandHandled, self._count)
        bus.listen(signals.BatchProjected, self._measure)

    def _count(self, run: signals.CommandHandled) -> None:
        self.commands[run.message, run.outcome] += 1
        self.seconds[run.message] += run.seconds

    def _measure(self, batch: signals.BatchProjected) -> None:
        self.batches[batch.projection].append(batch.arrived)


async def test_commands_and_batches_are_counted(unique: str) -> None:
    bus = build(Settings.in_memory(), Diary(), unique)
    metrics = Metrics(bus)
    async with bus, Worker(bus):
        for _ in range(3):
            receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        with pytest.raises(AggregateNotFound):
            await bus.execute(Thank(wallet_id="nobody's"))
        await bus.query(GetWallet(wallet_id="a"), after=receipt)
        await until(lambda: sum(metrics.batches["wallets"]) == 3, "each event is in a batch")
    assert metrics.commands == {("Pay", "done"): 3, ("Thank", "failed"): 1}
    assert metrics.seconds.keys() == {"Pay", "Thank"}
