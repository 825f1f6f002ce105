"""Runs handlers that take a session: what they write in it, their commits, and the command's id or
the event's mark are one transaction.

Whatever stores it runs a handler again after a conflict; each run has a unit of work of its own.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bus.dispatch.anew import anew
from bus.dispatch.dependencies import Bound
from bus.dispatch.middleware import Next
from bus.dispatch.results import Results
from bus.messages import Envelope, Receipt
from bus.stores.event_log import Commit
from bus.stores.session import Effects
from bus.write.receipts import receipt_of, receipt_of_repeat
from bus.write.unit_of_work import UnitOfWork

Begin = Callable[[str, Envelope, Any], UnitOfWork]
"""Makes the unit of work of an id, for a message and a session."""


class Run(NamedTuple):
    """A run of a handler that came to its end: its unit of work, commits and typed result."""

    work: UnitOfWork
    commits: Sequence[Commit]
    result: Any


class Transactions:
    """Runs handlers by `Effects`. `kept` has the ids of commands whose callers chose them and which
    the log has, until somebody takes them out."""

    def __init__(self, effects: Effects, begin: Begin) -> None:
        self._effects = effects
        self._begin = begin
        self.kept: set[str] = set()

    def command(self, bound: Bound, results: Results) -> Next:
        """Returns the route of a command: its id is stored whatever its handler does, so that a
        repeat is told by it."""

        async def run(envelope: Envelope) -> Receipt:
            runs: list[Run] = []

            async def handling(session: Any) -> Sequence[Commit]:
                work = self._begin(envelope.id, anew(envelope), session)
                result = typed = await bound(work)
                if result is not None:
                    typed, result = results.written(result)
                await work.locate()
                runs.append(Run(work, work.prepare(result, keep=True), typed))
                return runs[-1].commits

            began = time.monotonic()
            stored = await self._effects.commit(handling)
            if envelope.digest:
                self.kept.add(envelope.id)
            for work, commits, typed in runs:
                if commits is stored:
                    await _announce(work, began)
                    return receipt_of(commits, typed)
            return results.read(receipt_of_repeat(stored, envelope))

        return run

    async def event(self, id: str, mark: str, envelope: Envelope, bound: Bound) -> None:
        """Runs an event's handler, unless the mark exists."""
        works: list[UnitOfWork] = []

        async def handling(session: Any) -> Sequence[Commit]:
            work = self._begin(id, anew(envelope), session)
            works.append(work)
            await bound(work)
            await work.locate()
            return work.prepare()

        began = time.monotonic()
        if await self._effects.once(mark, handling):
            await _announce(works[-1], began)


async def _announce(work: UnitOfWork, began: float) -> None:
    work.tell_stored(time.monotonic() - began)
    await work.announce()
