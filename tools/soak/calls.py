"""Calls: commands as a careful client sends them, each noted in the ledger before and after."""

import asyncio
import time
import uuid

from bus import Bus, BusError, ConcurrencyError, OutcomeUnknown, Receipt, Unavailable
from read_models.job_board import GetJob
from tools.soak.ledger import Ledger
from tools.soak.script import Step

PAUSE = 0.1
TRY = "soak-try"
"""The header that says by which try of a command its commits were stored."""
OPEN = (OutcomeUnknown, Unavailable, ConcurrencyError)


class Caller:
    """Sends commands until their outcome is known: always under the same id."""

    def __init__(self, bus: Bus, ledger: Ledger) -> None:
        self._bus = bus
        self._ledger = ledger

    async def call(self, step: Step, after: Receipt | None = None) -> Receipt | None:
        """Returns the receipt, or None where the domain refused; tries for as long as it takes."""
        while True:
            attempt = uuid.uuid4().hex[:12]
            self._ledger.intend(step.id, type(step.command).__name__, attempt)
            began = time.monotonic()
            try:
                receipt = await self._bus.execute(
                    step.command, id=step.id, after=after, headers={TRY: attempt}
                )
            except OPEN as error:
                reason = f"{type(error).__name__}: {error!s:.200}"
                self._ledger.unknown(step.id, reason, time.monotonic() - began, attempt)
                await asyncio.sleep(PAUSE)
            except Exception as error:
                name = type(error).__name__
                expected = name in step.may and not isinstance(error, BusError)
                text = name if expected else f"{name}: {error!s:.300}"
                seconds = time.monotonic() - began
                self._ledger.refused(
                    step.id, text, expected=expected, seconds=seconds, attempt=attempt
                )
                return None
            else:
                self._ledger.accepted(step.id, receipt.versions, time.monotonic() - began)
                return receipt

    async def read(self, job: str, after: Receipt) -> None:
        """Reads a job back, its own writes included; an answer that lacks them is noted."""
        while True:
            began = time.monotonic()
            try:
                view = await self._bus.query(GetJob(job_id=job), after=after)
            except Unavailable:
                await asyncio.sleep(PAUSE)
                continue
            wanted, got = after.versions[f"job-{job}"], view.version if view else 0
            if got < wanted:
                self._ledger.stale(job, wanted, got, time.monotonic() - began)
            return
