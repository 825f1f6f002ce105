"""Payments made while things break: what was accepted, and what must have come of it.

Each client pays 1, 2, 3 ... into a wallet of its own, one after the other, and repeats with the
same id what it was told nothing clear about. A document must list exactly these numbers, in order.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from bus import Bus, ConcurrencyError, OutcomeUnknown, Projection, Receipt, StoreUnavailable
from bus.common import clock
from bus.errors import NotCaughtUp
from tests.service.wallet import Diary, GetWallet, Pay
from tests.waiting import patience, until

AGAIN = 0.02
PROBE_EVERY = 0.1
GRATEFUL_EVERY = 5  # so often the handler answers with a command, through the broker


class Payments:
    """A load of payments, and the ledger of it."""

    def __init__(self, bus: Bus, diary: Diary, *, clients: int = 10, pause: float = 0.04) -> None:
        self.paid: Counter[str] = Counter()
        self.grateful: Counter[str] = Counter()
        self._bus = bus
        self._diary = diary
        self._clients = clients
        self._pause = pause
        self._stopping = asyncio.Event()
        self._probes = 0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Pays from many clients at once, from before the block until after it."""
        self._stopping.clear()
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(f"w{number}"))
            await self.recovery(within=20)
            try:
                yield
            finally:
                self._stopping.set()

    async def recovery(self, within: float) -> float:
        """Seconds from now until a payment, begun now or later, shows in its document."""
        started = time.monotonic()
        probes: set[asyncio.Task[None]] = set()
        try:
            while True:
                probes.add(asyncio.create_task(self._probe()))
                done, _ = await asyncio.wait(
                    probes, timeout=PROBE_EVERY, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return time.monotonic() - started
                assert time.monotonic() - started < within * patience(), (
                    f"no effect within {within} s"
                )
        finally:
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    async def pay(self, wallet: str, *, mood: str = "") -> Receipt:
        """Pays the next amount, for sure."""
        command = Pay(wallet_id=wallet, amount=self.paid[wallet] + 1, mood=mood)
        id = clock.new_id()
        while True:
            with suppress(OutcomeUnknown, StoreUnavailable, ConcurrencyError):
                receipt = await self._bus.execute(command, id=id)
                self.paid[wallet] += 1
                self.grateful[wallet] += mood == "grateful"
                return receipt
            await asyncio.sleep(AGAIN)

    async def expect_each_once(self, within: float = 30.0) -> None:
        """Everything accepted is in the documents once, in order, and was handled; nothing else."""
        await until(self._all_shown, "the documents do not show every payment", within=within)
        await until(self._all_handled, "not every event was handled", within=within)
        await until(self._none_pending, "marks are still pending", within=within)
        assert await self._bus.runtime.control.dead_letters() == []

    # --- within ------------------------------------------------------------------------------

    async def _client(self, wallet: str) -> None:
        turn = 0
        while not self._stopping.is_set():
            turn += 1
            await self.pay(wallet, mood="grateful" if turn % GRATEFUL_EVERY == 0 else "")
            await asyncio.sleep(self._pause)

    async def _probe(self) -> None:
        self._probes += 1
        wallet = f"probe{self._probes}"
        receipt = await self.pay(wallet)
        while True:
            with suppress(NotCaughtUp, StoreUnavailable):
                await self._bus.query(GetWallet(wallet_id=wallet), after=receipt, timeout=60)
                return
            await asyncio.sleep(AGAIN)

    async def _all_shown(self) -> bool:
        """Whether all is there; fails at once where something is there that must not be."""
        rows = {row["_id"]: row for row in await self._rows()}
        shown = [self._shows(rows.get(w, {}), w, paid) for w, paid in self.paid.items()]
        return all(shown)

    def _shows(self, row: dict[str, Any], wallet: str, paid: int) -> bool:
        payments, thanks = row.get("payments", []), row.get("thanks", 0)
        assert payments == list(range(1, len(payments) + 1)), f"{wallet}: {payments}"
        assert len(payments) <= paid, f"{wallet}: {len(payments)} payments of {paid}"
        assert thanks <= self.grateful[wallet], f"{wallet}: thanked too often"
        return len(payments) == paid and thanks == self.grateful[wallet]

    async def _rows(self) -> list[dict[str, Any]]:
        (target,) = (
            s.of.target() for s in self._bus.runtime.subscriptions if isinstance(s.of, Projection)
        )
        with suppress(StoreUnavailable):
            return await self._bus.runtime.collections.documents(target).find({}, limit=10_000)
        return []

    def _all_handled(self) -> bool:
        handled = Counter(stream.partition("-")[2] for stream, _ in set(self._diary.seen))
        return all(handled[wallet] == paid for wallet, paid in self.paid.items())

    async def _none_pending(self) -> bool:
        with suppress(StoreUnavailable):
            return not await self._bus.runtime.event_log.pending(clock.now(), 1)
        return False
