"""Listeners: calls functions with the signals that they listen to; their failures harm nobody.

A tracer is told besides that something begins, so that a span can be open meanwhile.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import Condition, RLock, Thread
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

from bus.common.exceptions import own
from bus.common.signatures import inspected, is_async, name_of
from bus.errors import ConfigurationError
from bus.messages import Envelope
from bus.observe.log import Logger
from bus.observe.logged import LEVELS, log_signal
from bus.observe.signals import KINDS, EventHandled, HandlerRun, ListenerBehind, Signal
from bus.observe.tracer import Batch, Ended, Tracer, What, batch_of
from bus.transports.base import Delivery, Frame

Some = TypeVar("Some", bound=Signal)
Fields = ParamSpec("Fields")
Listener = Callable[[Any], object]
Page = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Given the request's `Accept`, returns a content type and a body. It asks nobody: it is to answer
while everything else is away. Raises: NoPage."""

SLOW = 0.05
"""Seconds that a listener may take before the log names it: all that goes on waits for it."""
MOST_BEHIND = 10_000
"""How many signals wait for the listeners that are called apart."""
TELL_EVERY = 60.0
IDLE = 5.0
"""Seconds after which the thread of these listeners ends, unless there is another signal."""

log = Logger("bus.signals")


class Watches(Protocol):
    """Has runs of handlers watched that somebody wants to hear of."""

    def attend(self) -> None:
        """Looks again who listens."""


class NoPage(Exception):
    """A page is not to be had; it says why."""


class Signals:
    """The listeners of one bus, in all of its event loops. The log is the first of them."""

    def __init__(self, service: str = "") -> None:
        self.service = service
        self.wanted: dict[type[Signal], tuple[Listener, ...]] = dict.fromkeys(LEVELS, (log_signal,))
        """Who listens, by kind. Look here before making a signal of what happens often."""
        self.pages: dict[str, Page] = {}
        """What listeners show at the health port, by path: "/metrics"."""
        self.each: frozenset[type[Signal]] = frozenset()
        """The kinds of `HandlerRun` of which somebody wants each one, not a sample."""
        self.sampled: frozenset[type[Signal]] = frozenset()
        """The kinds of `HandlerRun` of which somebody makes do with a sample."""
        self.watches = WeakSet[Watches]()
        """Who is to see to it that runs are watched, if they are wanted."""
        self.tracer: Tracer | None = None
        """Who hears that something begins, if anybody does; `trace` sets it."""
        self.share = 0.0
        """The tracer's share."""
        self.ambient: Callable[[], object] = _nothing
        """The tracer's look at what context there is. It may raise."""
        self._failed: set[tuple[int, str]] = set()
        self._slow: set[int] = set()
        self._apart = _Apart(self)
        self._lock = RLock()

    def trace(self, tracer: Tracer | None) -> None:
        """Has the tracer told what begins, in place of the one before; None for nobody. Raises:
        what its `share` and its `ambient` raise."""
        share, ambient = (tracer.share, tracer.ambient) if tracer else (0.0, _nothing)
        self.tracer, self.share, self.ambient = tracer, share, ambient
        self._attend()

    def listen(
        self,
        kind: type[Some],
        listener: Callable[[Some], object],
        *,
        apart: bool = False,
        sampled: bool = False,
    ) -> Callable[[], None]:
        """Has `listener` called with each signal of a kind; returns what ends that.

        With `apart`, a thread calls it, so that nothing waits for it. With `sampled`, it does not
        want each run of a handler: a `HandlerRun` may stand for several.

        Raises: ConfigurationError.
        """
        where = f"Bus({self.service!r}).listen"
        kinds = [known for known in KINDS if isinstance(kind, type) and issubclass(known, kind)]
        if not kinds or not issubclass(kind, Signal):
            raise ConfigurationError(
                f"{where}({kind!r:.100}, ...): it is not a kind of signal; `bus.signals` has them: "
                f"write it as in bus.listen(signals.CommandHandled, count)"
            )
        if not callable(listener):
            raise ConfigurationError(
                f"{where}({kind.__name__}, {listener!r:.100}): it cannot be called; give a "
                f"function that takes the signal"
            )
        where = f"{where}({kind.__name__}, {name_of(listener)})"
        if is_async(listener):
            raise ConfigurationError(
                f"{where}: it is async, and nobody would await it; write `def`, and have it put "
                f"the signal into a queue where a task of yours is to go on with it"
            )
        _check_parameters(where, listener)
        called: Listener = partial(self._apart.put, listener) if apart else listener
        if sampled:
            called = _Sampled(called)
        elif any(issubclass(known, HandlerRun) for known in kinds):
            called = _Each(called)
        for known in kinds:
            self._add(known, called)

        def stop() -> None:
            while kinds:  # so that a second call does nothing
                self._remove(kinds.pop(), called)

        return stop

    def emit(
        self,
        kind: Callable[Concatenate[str, Fields], Signal],
        /,
        *values: Fields.args,
        **named: Fields.kwargs,
    ) -> None:
        """Calls the listeners with a signal, or makes none if there are none. Raises nothing."""
        listeners = self.wanted.get(kind)  # type: ignore[call-overload]
        if listeners:
            signal = kind(self.service, *values, **named)
            for listener in listeners:
                self._call(listener, signal)

    def _call(self, listener: Listener, signal: Signal) -> None:
        """Calls one listener; names it in the log, once, if it takes longer than SLOW."""
        began = time.monotonic()
        try:
            listener(signal)
        except BaseException as error:
            if not own(error):
                raise
            self.note(listener, name_of(listener), signal.name, error)
        took = time.monotonic() - began
        if took > SLOW and id(listener) not in self._slow:
            self._slow.add(id(listener))
            log.warning(
                "listener_slow",
                listener=name_of(listener),
                signal=signal.name,
                seconds=round(took, 3),
                hint="everything waits for it: have it called in a thread, listen(..., apart=True)",
            )

    def is_in_trace(self) -> bool:
        """Returns whether the tracer finds a context here. Raises nothing."""
        try:
            return bool(self.ambient())
        except BaseException as error:
            self.note_tracer(self.tracer, "ambient", error)
            return False

    def begin(
        self,
        kind: type[HandlerRun],
        envelope: Envelope,
        handler: str,
        attempt: int,
        came: Delivery | None,
    ) -> tuple[Envelope, Ended] | None:
        """Tells the tracer that a handler is to run. Raises nothing."""
        tracer = self.tracer
        if tracer is None:
            return None
        try:
            begun = tracer.begin(kind, envelope, handler, attempt, came)
        except BaseException as error:
            self.note_tracer(tracer, "begin", error)
            return None
        return begun and (begun[0], partial(self._ended, tracer, begun[1]))

    @contextmanager
    def publishing(self, envelope: Envelope) -> Iterator[Envelope]:
        """Tells the tracer that an event is published outside of handlers, and when that is over;
        yields the envelope to go on with."""
        begun = self.begin(EventHandled, envelope, "", 1, None)
        if begun is None:
            yield envelope
            return
        try:
            yield begun[0]
        except BaseException as error:
            begun[1](error)
            raise
        begun[1](None)

    def sending(self, frame: Frame) -> tuple[Frame, Ended] | None:
        """Tells the tracer that a message is to be sent. Raises nothing."""
        tracer = self.tracer
        if tracer is None:
            return None
        try:
            begun = tracer.sending(frame)
        except BaseException as error:
            self.note_tracer(tracer, "sending", error)
            return None
        return begun and (begun[0], partial(self._ended, tracer, begun[1]))

    def batch_of(
        self,
        what: What,
        name: str,
        began: float,
        frames: Iterable[Frame],
        error: str = "",
        *,
        late: bool = False,
    ) -> None:
        """Tells the tracer what was done with these messages, if any of them is of a trace. They
        are all `late` if that is said. Raises nothing."""
        tracer = self.tracer
        if tracer is None:
            return
        try:
            if batch := batch_of(what, name, began, list(frames), error, late=late):
                tracer.batch(batch)
        except BaseException as failure:
            self.note_tracer(tracer, "batch", failure)

    def batch(self, what: Batch) -> None:
        """Tells the tracer, if there is one, what was done. Raises nothing."""
        tracer = self.tracer
        if tracer is None:
            return
        try:
            tracer.batch(what)
        except BaseException as error:
            self.note_tracer(tracer, "batch", error)

    def _ended(self, tracer: Tracer, ended: Ended, error: BaseException | None) -> None:
        try:
            ended(error)
        except BaseException as failure:
            self.note_tracer(tracer, "ended", failure)

    def _add(self, kind: type[Signal], listener: Listener) -> None:
        with self._lock:  # buses may be opened in several threads at once
            self.wanted[kind] = (*self.wanted.get(kind, ()), listener)
            self._attend()

    def _remove(self, kind: type[Signal], listener: Listener) -> None:
        with self._lock:
            self._failed.discard((id(listener), kind.name))
            self._slow.discard(id(listener))
            left = list(self.wanted[kind])
            left.remove(listener)
            if left:
                self.wanted[kind] = tuple(left)
            else:
                del self.wanted[kind]
            self._attend()

    def _attend(self) -> None:
        """Works out what is wanted of each run of a handler."""
        runs = {kind: who for kind, who in self.wanted.items() if issubclass(kind, HandlerRun)}
        samples = {kind: [isinstance(one, _Sampled) for one in who] for kind, who in runs.items()}
        self.each = frozenset(kind for kind, sampled in samples.items() if not all(sampled))
        self.sampled = frozenset(kind for kind, sampled in samples.items() if any(sampled))
        for watches in list(self.watches):
            watches.attend()

    def note_tracer(self, tracer: Tracer | None, what: str, error: BaseException) -> None:
        """Logs the first failure of a tracer. Raises: `error`, if it is not the tracer's own."""
        if not own(error):
            raise error
        self.note(tracer, f"{name_of(tracer)}.{what}", what, error)

    def note(self, of: object, name: str, what: str, error: BaseException) -> None:
        """Logs the first failure of a listener with signals of a kind, or of a tracer."""
        if (id(of), what) not in self._failed:
            self._failed.add((id(of), what))
            log.error(
                "listener_failed",
                listener=name,
                signal=what,
                hint="it is called all the same from now on; further failures are not logged",
                exc_info=error,
            )


class _Apart:
    """The listeners that are called in a thread, one after the other.

    The thread is there while there are signals. It does not keep the process from ending.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._waiting: deque[tuple[Listener, Signal]] = deque()
        self._ready = Condition()
        self._thread: Thread | None = None
        self._dropped: dict[int, _Dropped] = {}

    def put(self, listener: Listener, signal: Signal) -> None:
        """Has the listener called soon, unless too many signals wait already."""
        with self._ready:
            has_room = len(self._waiting) < MOST_BEHIND
            if has_room:
                self._waiting.append((listener, signal))
                self._ready.notify()
            if self._thread is None or not self._thread.is_alive():  # as in the child of a fork
                self._thread = Thread(target=self._run, name="bus listeners", daemon=True)
                self._thread.start()
        if not has_room:
            self._drop(listener)

    def _drop(self, listener: Listener) -> None:
        dropped = self._dropped.setdefault(id(listener), _Dropped(listener))
        dropped.count += 1
        if time.monotonic() >= dropped.tell_at:
            self._tell(dropped)

    def _tell(self, dropped: "_Dropped") -> None:
        count, dropped.count = dropped.count, 0  # first: who hears of it may be the one behind
        dropped.tell_at = time.monotonic() + TELL_EVERY
        if count:
            name = name_of(dropped.listener)
            self._signals.emit(ListenerBehind, listener=name, dropped=count)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            listener, signal = waiting
            try:
                listener(signal)
            except BaseException as error:  # there is no task here that anybody could cancel
                self._signals.note(listener, name_of(listener), signal.name, error)
        for dropped in list(self._dropped.values()):
            self._tell(dropped)

    def _next(self) -> tuple[Listener, Signal] | None:
        with self._ready:
            if not self._ready.wait_for(lambda: self._waiting, IDLE):
                self._thread = None
                return None
            return self._waiting.popleft()


def _nothing() -> object:
    return None


class _Dropped:
    """What one listener was not given, since it was last said."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.count = 0
        self.tell_at = 0.0


class _Sampled(partial[object]):
    """A listener that makes do with a sample of the runs of handlers."""


class _Each(partial[object]):
    """A listener that hears each run of a handler, so that none of them stands for others."""

    def __call__(self, signal: Signal) -> object:
        if isinstance(signal, HandlerRun) and signal.runs != 1:
            signal = replace(signal, runs=1)
        return super().__call__(signal)


def _check_parameters(where: str, listener: Listener) -> None:
    try:
        taken = inspected(listener)
    except ValueError:  # some of what is written in C does not say
        return
    try:
        taken.bind(None)
    except TypeError:
        raise ConfigurationError(
            f"{where}: it takes {taken}, and is called with the signal alone; give the rest "
            f"beforehand, as functools.partial does"
        ) from None
