"""Health: whether a process is alive and ready, and what is wrong with the parts it works with.

Each part is asked a question of its own. Questions run concurrently, each is bounded, and one that
fails or is not answered is a problem like any other: asking for health never raises.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from bus.common.tasks import apart, end
from bus.errors import Unavailable
from bus.observe.loops import Loops

PATIENCE = 1.0
"""Seconds, in the loop's own time, that a call waits for answers."""
GONE = 3.0
GONE_WHILE_BUSY = 10.0
"""Seconds after which an unanswered question is a problem; the latter if this process itself was
late meanwhile, because its machine is busy. Until then the last answer counts."""
BUSY = 0.1
"""If a process is late by more than this share of its waiting, its machine is busy."""
SLICES = 5
LASTING = 10.0
"""Seconds after which a loop that keeps failing makes its process not ready."""
SERVICES = {"broker", "database"}

Breaks = Literal["nothing", "ready", "alive"]
Level = Literal["ok", "warning", "error"]
Ask = Callable[[], Awaitable[str | None]]


class HealthProblem(NamedTuple):
    """What is wrong with a part, and for how many seconds this has been known.

    `breaks` says what follows. "ready": this process cannot do its work until it is over. "alive":
    only a restart helps. "nothing": work goes on, but somebody should know.
    """

    part: str
    what: str
    seconds: float
    breaks: Breaks = "nothing"

    def __str__(self) -> str:
        return f"{self.part}: {self.what} (for {self.seconds:.0f} s)"


class Health(NamedTuple):
    """The state of a process, for probes."""

    alive: bool
    ready: bool
    problems: tuple[HealthProblem, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON types."""
        problems = [
            {**problem._asdict(), "seconds": round(problem.seconds, 1)} for problem in self.problems
        ]
        return {"alive": self.alive, "ready": self.ready, "problems": problems}


class Finding(NamedTuple):
    """What was found out about a part of what a service stands on, and what to do about it.

    `level` "ok" is as it should be, or good to know. `promise` is the row of the guarantees, "G1",
    that does not hold in full until it is put right; empty if all do.
    """

    part: str
    level: Level
    what: str
    remedy: str = ""
    promise: str = ""


def fine(what: str) -> Finding:
    """Returns a finding, of a part that who asked gives it."""
    return Finding("", "ok", what)


def warning(what: str, remedy: str, promise: str = "") -> Finding:
    """Returns a finding that stops nothing now."""
    return Finding("", "warning", what, remedy, promise=promise)


def fault(what: str, remedy: str, promise: str = "") -> Finding:
    """Returns a finding by which something does not work, or may be lost."""
    return Finding("", "error", what, remedy, promise=promise)


def of_problem(text: str, remedy: str = "", promise: str = "") -> Finding:
    """Returns an error that was put into words as all are here: what is wrong; what to do."""
    what, _, told = text.partition("; ")
    return fault(what, told or remedy, promise)


@runtime_checkable
class Examined(Protocol):
    """A server, or a part of it, that can be asked what it is and what it lacks."""

    async def examined(self) -> list[Finding]:
        """Returns what was found; changes nothing. Raises: Unavailable, ConfigurationError."""
        ...


class Check(NamedTuple):
    """A question: `ask` returns what is wrong with the part, or None. If `ask` writes something,
    `looks` is what a program asks instead that only looks."""

    part: str
    ask: Ask
    breaks: Breaks = "nothing"
    looks: Ask | None = None


class _Question:
    """A question that a check was asked, since when, and its answer before that."""

    def __init__(self, check: Check, last: str | None, *, is_first: bool, looks_only: bool) -> None:
        self.asked_at = time.monotonic()
        self.last = last
        self.is_first = is_first
        ask = check.looks if looks_only and check.looks else check.ask
        self.task = apart(_asked(ask))

    async def wait(self, seconds: float) -> float:
        """Waits for the answer; returns by what share of the time the loop was late."""
        late = 0.0
        for _ in range(SLICES):
            due = time.monotonic() + seconds / SLICES
            await asyncio.wait([self.task], timeout=seconds / SLICES)
            if self.task.done():
                break
            late += max(0.0, time.monotonic() - due)
        return late / seconds

    def answer(self, late: float, gone: float) -> str | None:
        """Returns the answer, or what is to be taken for it meanwhile."""
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

    One call takes at most `patience` seconds, or `gone` seconds if a part has never answered, in
    the loop's own time. A part counts as gone after `gone` seconds, too.
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
        self.looks_only: Collection[str] = ()
        """The parts that are asked without writing anything."""
        self.last: Health | None = None
        """What was answered last when somebody asked for health."""
        self._asked_at = 0.0

    @property
    def parts(self) -> list[tuple[str, Breaks]]:
        """The parts that are asked, and what follows if something is wrong with them."""
        return [(check.part, check.breaks) for check in self._checks]

    def add(self, checks: Iterable[Check]) -> None:
        self._checks += checks

    def remove(self, checks: Iterable[Check]) -> None:
        for check in checks:
            self._checks.remove(check)
            self._since.pop(check, None)
            self._last.pop(check, None)

    async def health(self) -> Health:
        """Asks every part, concurrently."""
        problems = await self._problems(self._checks)
        failing = self._failing({problem.part for problem in problems})
        self.last, self._asked_at = _health([*problems, *failing]), time.monotonic()
        return self.last

    def recent(self, seconds: float) -> Health | None:
        """Returns what was answered last, unless that is longer ago."""
        return self.last if time.monotonic() - self._asked_at < seconds else None

    def _failing(self, parts: set[str]) -> Iterator[HealthProblem]:
        """Yields the failing loops, except for an outage that is among the problems already."""
        for failing in self._loops.failing:
            if not (failing.is_outage and parts & SERVICES):
                seconds = time.monotonic() - failing.since
                breaks: Breaks = "ready" if seconds > LASTING else "nothing"
                yield HealthProblem(f"loop {failing.loop}", failing.what, seconds, breaks)

    async def alive(self) -> Health:
        """Asks only what a restart would mend, which never needs another process."""
        return _health(await self._problems([c for c in self._checks if c.breaks == "alive"]))

    async def close(self) -> None:
        """Cancels the questions that are still unanswered."""
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
        """Returns a check's answer. An unanswered question stays open and is not asked again:
        otherwise questions would pile up at a frozen part."""
        question = self._open.get(check) or self._ask(check)
        late = await question.wait(self._gone if question.is_first else self._patience)
        answer = question.answer(late, self._gone)
        if check in self._checks:
            self._last[check] = answer
        return answer

    def _ask(self, check: Check) -> _Question:
        question = _Question(
            check,
            self._last.get(check),
            is_first=check not in self._last,
            looks_only=check.part in self.looks_only,
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
