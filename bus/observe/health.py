"""Health: whether a process is alive and ready, and what is wrong with the parts it works with.

Each part is asked a question of its own. Questions run together, each is bounded, and one that
fails or does not come back is a problem like any other: asking for health never raises.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from bus.common.tasks import apart, end
from bus.errors import Unavailable
from bus.observe.loops import Loops

PATIENCE = 1.0
"""Seconds of the loop's own time that one call waits for what is not answered yet."""
GONE = 3.0
GONE_WHILE_BUSY = 10.0
"""Seconds after which a question without an answer is a problem; the latter where this process was
late itself meanwhile, so that its machine is busy. Until then its last answer counts."""
BUSY = 0.1
"""The share of its waiting by which a process is late where its machine is busy."""
SLICES = 5
LASTING = 10.0
"""Seconds after which a loop that fails again and again makes its process not ready."""
SERVICES = {"broker", "database"}

Breaks = Literal["nothing", "ready", "alive"]
Ask = Callable[[], Awaitable[str | None]]


class HealthProblem(NamedTuple):
    """What is wrong with a part, and for how many seconds it has been known.

    `breaks` says what follows from it. "ready": this process cannot do its work until it is over.
    "alive": only a restart helps. "nothing": work goes on, somebody should know.
    """

    part: str
    what: str
    seconds: float
    breaks: Breaks = "nothing"

    def __str__(self) -> str:
        return f"{self.part}: {self.what} (for {self.seconds:.0f} s)"


class Health(NamedTuple):
    """The state of a process: what probes ask for."""

    alive: bool
    ready: bool
    problems: tuple[HealthProblem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        problems = [
            {**problem._asdict(), "seconds": round(problem.seconds, 1)} for problem in self.problems
        ]
        return {"alive": self.alive, "ready": self.ready, "problems": problems}


class Check(NamedTuple):
    """A question: `ask` returns what is wrong with the part, or None. Somebody who only looks asks
    `looks` in its place, where `ask` would write something."""

    part: str
    ask: Ask
    breaks: Breaks = "nothing"
    looks: Ask | None = None


class _Question:
    """What one check was asked, since when, and what it answered before that."""

    def __init__(self, check: Check, last: str | None, *, is_first: bool, looks_only: bool) -> None:
        self.asked_at = time.monotonic()
        self.last = last
        self.is_first = is_first
        ask = check.looks if looks_only and check.looks else check.ask
        self.task = apart(_asked(ask))

    async def wait(self, seconds: float) -> float:
        """Waits for the answer, so long as the loop turns; returns by which share it was late."""
        late = 0.0
        for _ in range(SLICES):
            due = time.monotonic() + seconds / SLICES
            await asyncio.wait([self.task], timeout=seconds / SLICES)
            if self.task.done():
                break
            late += max(0.0, time.monotonic() - due)
        return late / seconds

    def told(self, late: float, gone: float) -> str | None:
        """What is known of it by now."""
        if self.task.done():
            return "the question was cut off" if self.task.cancelled() else self.task.result()
        age = time.monotonic() - self.asked_at
        if age < (gone * GONE_WHILE_BUSY / GONE if late > BUSY else gone):
            return self.last
        busy = f"; this process itself was late by {late:.0%} of the time" if late > BUSY else ""
        self.last = f"no answer for {age:.1f} s{busy}"
        return self.last


class Checkup:
    """All checks of a process. A worker adds its own to those of its bus.

    One call takes `patience` seconds at most, and where a part was never heard of, `gone` seconds:
    these are of the loop's own time. A part is taken for gone after that time, too.
    """

    def __init__(
        self,
        checks: Iterable[Check],
        *,
        patience: float = PATIENCE,
        gone: float = GONE,
        loops: Loops | None = None,
    ) -> None:
        self._checks = list(checks)
        self._patience = patience
        self._gone = gone
        self._loops = loops or Loops()
        self._open: dict[Check, _Question] = {}
        self._last: dict[Check, str | None] = {}
        self._since: dict[Check, float] = {}
        self.looks_only = False
        """Whether nothing is to be changed by asking."""

    def add(self, checks: Iterable[Check]) -> None:
        self._checks += checks

    def remove(self, checks: Iterable[Check]) -> None:
        for check in checks:
            self._checks.remove(check)
            self._since.pop(check, None)
            self._last.pop(check, None)

    async def health(self) -> Health:
        """Asks every part, all at once."""
        problems = await self._problems(self._checks)
        return _health([*problems, *self._failing({one.part for one in problems})])

    def _failing(self, parts: set[str]) -> Iterator[HealthProblem]:
        """The loops that fail. A service that is away is told by its own check."""
        for one in self._loops.failing:
            if not (one.is_outage and parts & SERVICES):
                seconds = time.monotonic() - one.since
                breaks: Breaks = "ready" if seconds > LASTING else "nothing"
                yield HealthProblem(f"loop {one.loop}", one.what, seconds, breaks)

    async def alive(self) -> Health:
        """Asks only for what a restart would mend; that never leaves the process."""
        return _health(await self._problems([c for c in self._checks if c.breaks == "alive"]))

    async def close(self) -> None:
        """Gives up the questions that are still unanswered."""
        await end(question.task for question in self._open.values())

    async def _problems(self, checks: Iterable[Check]) -> list[HealthProblem]:
        found = await asyncio.gather(*(self._problem(check) for check in checks))
        return [problem for problem in found if problem]

    async def _problem(self, check: Check) -> HealthProblem | None:
        what = await self._answer(check)
        if what is None:
            self._since.pop(check, None)
            return None
        since = self._since.setdefault(check, time.monotonic())
        return HealthProblem(check.part, what, time.monotonic() - since, check.breaks)

    async def _answer(self, check: Check) -> str | None:
        """A question without an answer stays open and is not asked again: asking must not pile up
        what a part that is frozen has to work off."""
        question = self._open.get(check) or self._ask(check)
        late = await question.wait(self._gone if question.is_first else self._patience)
        answer = question.told(late, self._gone)
        if check in self._checks:
            self._last[check] = answer
        return answer

    def _ask(self, check: Check) -> _Question:
        question = _Question(
            check,
            self._last.get(check),
            is_first=check not in self._last,
            looks_only=self.looks_only,
        )
        self._open[check] = question
        question.task.add_done_callback(lambda _: self._open.pop(check, None))
        return question


async def _asked(ask: Ask) -> str | None:
    try:
        return await ask()
    except Unavailable as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _health(problems: list[HealthProblem]) -> Health:
    broken = {problem.breaks for problem in problems}
    return Health("alive" not in broken, broken <= {"nothing"}, tuple(problems))
