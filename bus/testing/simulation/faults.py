"""What goes wrong, and when: faults drawn from a seed, and crashes at named steps.

Does not know transports or stores.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, NamedTuple, TypeVar, get_args

from bus.common import clock
from bus.errors import ConfigurationError, OutcomeUnknown, StoreUnavailable

Answer = TypeVar("Answer")

Step = Literal["commit", "publish", "mark", "handle", "project", "checkpoint", "acknowledge"]
"""A step in a message's life, in the order in which they happen.

    commit        a unit of work is written to the event log
    publish       frames go to the broker
    mark          commits that the broker confirmed lose their pending marks
    handle        a handler of a command or an event runs, and what it changed is stored
    project       a projection folds a batch; nothing is written yet
    checkpoint    the batch's documents and versions are written, in one transaction
    acknowledge   deliveries are settled
"""

STEPS: tuple[Step, ...] = get_args(Step)

When = Literal["before", "after"]
WHENS: tuple[When, ...] = get_args(When)


class Faults(NamedTuple):
    """How often each fault happens: chances from 0 to 1, per delivery, call or step.

    `reorder` shuffles what arrived together. `duplicate`, `delay` and `drop` affect a delivery; a
    dropped one comes again. `lose` keeps one from a projection for good (never from a handler,
    because a broker keeps what it confirmed). `forget` loses an acknowledgement, so that the
    delivery comes again. `publish` leaves a publish without an answer, whether it arrived or not.
    `store` makes a store's call fail: with StoreUnavailable, or with OutcomeUnknown before or after
    the write. `crash` ends the process before or after a step.
    """

    reorder: float = 0.2
    duplicate: float = 0.1
    delay: float = 0.1
    drop: float = 0.1
    lose: float = 0.05
    forget: float = 0.1
    publish: float = 0.1
    store: float = 0.03
    crash: float = 0.01


NO_FAULTS = Faults(**dict.fromkeys(Faults._fields, 0.0))


def checked(faults: Faults) -> Faults:
    """Returns the faults. Raises: ConfigurationError for a chance that is not from 0 to 1."""
    if not isinstance(faults, Faults):
        raise ConfigurationError(
            f"faults={faults!r:.100}: give Faults(...), with a chance for each kind of fault"
        )
    for kind, likely in faults._asdict().items():
        if isinstance(likely, bool) or not (
            isinstance(likely, int | float) and 0 <= likely <= 1
        ):  # fmt: skip
            raise ConfigurationError(
                f"Faults({kind}={likely!r}): these are chances, from 0 (never) to 1 (each time), "
                f"as in Faults({kind}=0.5)"
            )
    return faults


class CrashPoint:
    """The nth time, counted from now, that a step is reached."""

    def __init__(self, step: Step, when: When, nth: int) -> None:
        where = f"crash_at({step!r}, nth={nth!r}, when={when!r})"
        if step not in STEPS:
            raise ConfigurationError(f"{where}: there is no such step; take one of {_of(STEPS)}")
        if when not in WHENS:
            raise ConfigurationError(f"{where}: when is one of {_of(WHENS)}")
        if type(nth) is not int or nth < 1:
            raise ConfigurationError(
                f"{where}: nth counts from 1, the next time that the step is reached"
            )
        self.step = step
        self.when = when
        self.nth = nth
        self.seen = 0

    @property
    def reached(self) -> bool:
        return self.seen >= self.nth

    def sees(self, step: Step, when: When) -> bool:
        """Counts the step if it is this one; returns whether this is the nth time."""
        if self.reached or (step, when) != (self.step, self.when):
            return False
        self.seen += 1
        return self.reached

    def __str__(self) -> str:
        return (
            f"crash_at({self.step!r}, nth={self.nth}, when={self.when!r}): seen {self.seen} times"
        )


def _of(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words))


class Fate:
    """Decides what goes wrong. Each kind of fault has its own generator, so that an extra draw of
    one kind does not change the others."""

    def __init__(self, seed: int | str, faults: Faults) -> None:
        self.seed = seed
        self.points: list[CrashPoint] = []
        self._faults = faults
        self._calm = False
        self._chances: dict[str, random.Random] = {}

    def strikes(self, kind: str) -> bool:
        """Returns whether a fault of this kind (a field of `Faults`) happens now."""
        likely: float = getattr(self._faults, kind)
        return not self._calm and self.chance(kind).random() < likely

    def chance(self, purpose: str) -> random.Random:
        if purpose not in self._chances:
            self._chances[purpose] = random.Random(f"{self.seed}/{purpose}")
        return self._chances[purpose]

    def crashes(self, step: Step, when: When) -> bool:
        """Returns whether the process ends here."""
        due = [point for point in self.points if point.sees(step, when)]
        return bool(due) or self.strikes("crash")

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Draws no faults within the block."""
        self._calm = True
        try:
            yield
        finally:
            self._calm = False

    def end(self) -> None:
        """Stops all faults from now on."""
        self._faults = NO_FAULTS
        self.points.clear()

    def check_reached(self) -> None:
        """Raises: AssertionError for a crash that was requested and did not happen."""
        missed = [str(point) for point in self.points if not point.reached]
        if missed:
            raise AssertionError(f"the process was never killed by {'; '.join(missed)}")


class Life:
    """One life of a process. Once it is over, no call in it returns: what a killed process had not
    done by then stays undone."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.over = asyncio.Event()

    async def goes_on(self) -> None:
        """Returns while the process lives; afterwards it never does, unless cancelled."""
        if self.over.is_set():
            if clock.is_cancelled():
                raise asyncio.CancelledError
            await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def step(self, step: Step) -> AsyncIterator[None]:
        """Runs the block as a step, before or after which the process may end."""
        await self.reach(step, "before")
        yield
        await self.reach(step, "after")

    async def risk(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Makes a store's call, which may fail in each way that a real one can."""
        await self.goes_on()
        if not self.fate.strikes("store"):
            return await call()
        failure = self.fate.chance("failure").choice(["away", "before the write", "after it"])
        if failure == "away":
            raise StoreUnavailable("chaos: the database is away")
        if failure == "after it":
            await call()
        raise OutcomeUnknown("chaos: the database did not answer in time")

    async def reach(self, step: Step, when: When) -> None:
        """Marks the point before or after a step, where the process may end."""
        await self.goes_on()
        if self.fate.crashes(step, when):
            self.over.set()
        await self.goes_on()
