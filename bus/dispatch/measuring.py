"""Measuring: counts the runs of each handler, and watches those that somebody wants to hear of.

A run that is watched has a time and becomes a signal, and a span. That costs more than a short
handler does, so of these only a sample is watched, as of those that come often, unless somebody
wants each one. What is counted (`Counted`) is exact all the same.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import random
from typing import Any, NamedTuple

from bus.common import clock
from bus.common.exceptions import judged, reported
from bus.declare.router import BASES, Kind
from bus.errors import NoHandler, Retry
from bus.messages import Envelope, Message, check_kind
from bus.observe.listeners import Signals
from bus.observe.log import current_attempt
from bus.observe.signals import HandlerRun, Signal
from bus.observe.tracer import Ended, current_delivery

Next = Callable[[Envelope], Awaitable[Any]]

EVERY = 128
"""One of so many runs is watched, if they are short, and samples will do."""
SHORT = 100e-6
"""Seconds. Runs that take longer are all watched, unless they come often."""
OFTEN = 100
"""Of more than so many a second, a sample is taken: to watch a run takes some 8 microseconds."""
ESTIMATED = 0.1
"""Seconds after which it is estimated anew how many come."""
MOST = 256
"""With a tracer, one of so many is watched at least: it may be to begin a trace."""


class Sampling:
    """Takes all of what is seldom, and of what comes often about `OFTEN` a second, at random: what
    comes in groups is as likely to be taken at their ends as at their beginnings."""

    __slots__ = ("_came", "_one_of", "_since")

    def __init__(self) -> None:
        self._one_of = 1.0
        self._came = 0
        self._since = 0.0

    def pause(self, came: int) -> int:
        """Returns how many to pass over until the next one is taken, where so many came by now."""
        now = time.monotonic()
        if (seconds := now - self._since) > ESTIMATED:
            self._one_of = max(1.0, (came - self._came) / seconds / OFTEN)
            self._came, self._since = came, now
        return int(random() * (2 * self._one_of - 1))


class Counted(NamedTuple):
    """How many runs of a handler have ended, by what came of them. `handler` is its name; for an
    event, its subscription's."""

    kind: type[HandlerRun]
    message: str
    handler: str
    done: int
    failed: int
    put_off: int


class Route:
    """The way of a message to its handler, and the runs that it had. Of one event loop.

    `left` is how many runs are to end before the next one is watched.
    """

    __slots__ = (
        "_decided",
        "_due",
        "_failed",
        "_put_off",
        "_sampling",
        "_told",
        "chain",
        "handler",
        "is_short",
        "kind",
        "left",
        "message",
        "run",
    )

    run: Next
    """Runs a message: its `chain`, or whoever watches that."""
    chain: Next
    """What runs around the handler, and the handler. It counts down `left` as it ends, or `note`s
    what it raised."""

    def __init__(self, kind: type[HandlerRun], message: str, handler: str) -> None:
        self.kind = kind
        self.message = message
        self.handler = handler
        self.left = 0
        self.is_short = False
        self._decided = 0
        self._due = 0
        self._failed = 0
        self._put_off = 0
        self._sampling = Sampling()
        self._told = 0

    @property
    def counted(self) -> Counted:
        """What the runs came to that have ended."""
        ended, failed, put_off = self._due - self.left, self._failed, self._put_off
        done = ended - failed - put_off
        return Counted(
            self.kind, self.message, self.handler, done=done, failed=failed, put_off=put_off
        )

    @property
    def _ended(self) -> int:
        return self._due - self.left

    def note(self, error: BaseException) -> None:
        """Counts a run that raised."""
        is_put_off = isinstance(judged(error), Retry)
        # Without a call from here on: another thread that reads `counted` would see half of it.
        if is_put_off:
            self._put_off += 1
        else:
            self._failed += 1
        self.left -= 1

    def wait(self, runs: int) -> None:
        """Has so many runs end before the next one is watched."""
        self._due += runs - self.left
        self.left = runs

    def pause(self) -> int:
        """Returns after how many runs to watch the next one, for who makes do with a sample."""
        often = self._sampling.pause(self._ended)
        return max(EVERY, often) if self.is_short else often

    def untold(self) -> int:
        """Returns how many runs have ended since it was called last."""
        before, self._told = self._told, self._ended
        return self._told - before

    def forget_untold(self) -> None:
        """Has samples stand for the runs from now on."""
        self._told = self._ended

    def forget_undecided(self) -> None:
        """Has traces begin for the runs from now on."""
        self._decided = self._ended

    def watched(self, seconds: float) -> int:
        """Notes that a run has ended that was watched; returns for how many runs it stands: for
        those that have ended since the last one, and itself."""
        self.is_short = seconds < SHORT
        self._decided += 1
        return self.untold()

    def begins_trace(self, share: float) -> bool:
        """Returns whether a run without a context is to begin a trace: at random, for those, too,
        that ended unwatched, all of which had none."""
        unwatched = self._ended - self._decided
        self._decided = self._ended
        return share > 0 and clock.source.fraction() < share * (1 + unwatched)


class Routes(dict[type[Message], Route]):
    """The one route of each command, or of each query. Raises: NoHandler for a missing one."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, message: type[Message]) -> Route:
        check_kind(message, BASES[self._kind], "query" if self._kind == "query" else "execute")
        for other in self:
            if message.wire_name == other.wire_name or issubclass(message, other):
                raise NoHandler(
                    f"nobody handles the {self._kind} {message.__name__}: a handler runs for the "
                    f"very class that it names, here {other.__name__}; give that, or register a "
                    f"handler of {message.__name__}"
                )
        raise NoHandler(
            f"nobody handles the {self._kind} {message.wire_name}; "
            f"is its router in Bus(routers=[...])?"
        )


class Watch:
    """Has the runs watched that somebody wants to hear of; the others take the way that they had.

    Who listens may change at any time: `Signals` has it see to that.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._routes: list[Route] = []
        self._had_samples: frozenset[type[Signal]] = frozenset()
        self._had_tracer = False
        signals.watches.add(self)

    def add(self, route: Route) -> None:
        self._routes.append(route)
        route.run = self._runner(route)

    def attend(self) -> None:
        """Has each route run as those want it who listen now."""
        signals = self._signals
        for route in self._routes:
            if route.kind not in self._had_samples:
                route.forget_untold()
            if not self._had_tracer:
                route.forget_undecided()
            route.run = self._runner(route)
        self._had_samples, self._had_tracer = signals.sampled, signals.tracer is not None

    def _runner(self, route: Route) -> Next:
        signals = self._signals
        if route.kind in signals.each:
            return partial(self._watched, route)
        if signals.tracer is not None:
            return self._traced(route, signals.ambient)
        return self._sampled(route) if route.kind in signals.sampled else route.chain

    def _sampled(self, route: Route) -> Next:
        chain = route.chain

        def run(envelope: Envelope) -> Awaitable[Any]:
            return chain(envelope) if route.left > 0 else self._watched(route, envelope)

        return run

    def _traced(self, route: Route, ambient: Callable[[], object]) -> Next:
        chain = route.chain

        def run(envelope: Envelope) -> Awaitable[Any]:
            try:
                if route.left > 0 and not envelope.headers and not ambient():
                    return chain(envelope)
            except BaseException as error:
                self._signals.note_tracer(self._signals.tracer, "ambient", error)
            return self._watched(route, envelope)

        return run

    async def _watched(self, route: Route, envelope: Envelope) -> Any:
        begun = self._begun(route, envelope)
        if begun:
            envelope = begun[0]
        if route.left <= 0:
            route.wait(self._pause(route))
        began = time.monotonic()
        try:
            result = await route.chain(envelope)
        except BaseException as raised:
            self._tell(route, envelope, began, raised)
            if begun:
                begun[1](raised)
            raise
        self._tell(route, envelope, began, None)
        if begun:
            begun[1](None)
        return result

    def _begun(self, route: Route, envelope: Envelope) -> tuple[Envelope, Ended] | None:
        if self._signals.tracer is None:
            return None
        has_context = "traceparent" in envelope.headers or self._signals.is_in_trace()
        if not has_context and not route.begins_trace(self._signals.share):
            return None
        return self._signals.begin(
            route.kind, envelope, route.handler, current_attempt.get(), current_delivery.get()
        )

    def _pause(self, route: Route) -> int:
        """Returns after how many runs to watch the next one."""
        share = self._signals.share
        traces = int(1 / share) if share > 1 / MOST else MOST
        wanted = route.kind in self._signals.wanted
        samples = route.pause() if wanted else MOST
        return min(samples, traces if traces > 1 else 0)

    def _tell(
        self, route: Route, envelope: Envelope, began: float, raised: BaseException | None
    ) -> None:
        seconds = time.monotonic() - began
        runs = route.watched(seconds)
        if route.kind not in self._signals.wanted:
            return
        put_off = raised is not None and isinstance(judged(raised), Retry)
        self._signals.emit(
            route.kind,
            message=envelope.name,
            message_id=envelope.id,
            correlation_id=envelope.correlation_id,
            handler=route.handler,
            attempt=current_attempt.get(),
            seconds=seconds,
            outcome="done" if raised is None else "put_off" if put_off else "failed",
            error="" if raised is None else type(reported(raised)).__name__,
            runs=runs if route.kind in self._signals.sampled else 1,
        )
