"""Tally: counts what the signals of one bus in this process say.

Runs of handlers are counted where they end; here it is only asked how many there were. Listeners
are called in any thread.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import add
from threading import Lock
from typing import NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

from bus.dispatch.measuring import Counted
from bus.observe import signals
from bus.observe.listeners import Signals
from bus.observe.signals import HandlerRun, Signal
from bus.telemetry.metrics.catalogue import METRICS, MOST_ERRORS, OTHER

Labels = tuple[str, ...]
Value = TypeVar("Value")
Numbers = dict[str, dict[Labels, float]]
"""Values by metric (OpenTelemetry's name), and by the values of its labels."""

RUNS: Mapping[type[HandlerRun], tuple[str, str]] = {
    signals.CommandHandled: ("bus.commands", "bus.command.duration"),
    signals.QueryAnswered: ("bus.queries", "bus.query.duration"),
    signals.EventHandled: ("bus.events.handled", "bus.event.duration"),
}


class Distribution(NamedTuple):
    """What a histogram holds: how many values each bucket has, those beyond the last one at the
    end; and their sum."""

    counts: tuple[int, ...]
    total: float


class Reading(NamedTuple):
    """All metrics at one moment. A gauge has the values of which somebody told."""

    counters: Numbers
    gauges: Numbers
    histograms: dict[str, dict[Labels, Distribution]]


class Counting(Protocol):
    """What counts the runs of handlers: a dispatcher."""

    @property
    def counted(self) -> list[Counted]: ...


class Tally:
    """The counts and histograms of one bus in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: defaultdict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(int))
        self._histograms: defaultdict[str, dict[Labels, _Histogram]] = defaultdict(dict)
        self._connected: dict[Labels, float] = {}
        self._errors: dict[str, set[str]] = {}
        self._counting: set[Counting] = set()
        self._ended: WeakKeyDictionary[Counting, list[Counted]] = WeakKeyDictionary()
        """What those had come to that count no more, but for as long as they might again."""

    def listen(self, to: Signals) -> list[Callable[[], None]]:
        """Begins to listen; returns what ends that."""
        stops = [to.listen(kind, heard) for kind, heard in self._heard().items()]
        return [*stops, *(to.listen(kind, self._ran, sampled=True) for kind in RUNS)]

    def count(self, runs: Counting) -> None:
        """Counts these runs, too, from their first one on."""
        with self._lock:
            _add_runs(self._counts, self._ended.pop(runs, []), times=-1)
            self._counting.add(runs)

    def end(self, runs: Counting) -> None:
        """Keeps what these runs have come to, and not them."""
        with self._lock:
            if runs in self._counting:
                self._counting.remove(runs)
                self._ended[runs] = runs.counted
                _add_runs(self._counts, self._ended[runs])

    def read(self) -> Reading:
        """Returns what is counted by now."""
        with self._lock:
            counters = {name: dict(values) for name, values in self._counts.items()}
            histograms = {
                name: {labels: found.read() for labels, found in of.items()}
                for name, of in self._histograms.items()
            }
            connected = dict(self._connected)
            counting = list(self._counting)
        for runs in counting:
            _add_runs(counters, runs.counted)
        return Reading(counters, {"bus.connected": connected}, histograms)

    def _heard(self) -> dict[type[Signal], Callable[..., None]]:
        return {
            signals.Conflicted: lambda of: self._add("bus.conflicts", of.message),
            signals.CommandRepeated: lambda of: self._add("bus.repeats", of.message),
            signals.EventsStored: self._stored,
            signals.Published: self._published,
            signals.Relayed: lambda of: self._add("bus.relayed", by=of.commits),
            signals.Connected: lambda of: self._connect(of.purpose, 1),
            signals.Disconnected: lambda of: self._connect(of.purpose, 0),
            signals.Received: self._received,
            signals.Settled: self._settled,
            signals.Retried: self._retried,
            signals.PutOff: lambda of: self._add("bus.put_off", of.queue),
            signals.GaveUp: self._gave_up,
            signals.BatchProjected: self._projected,
            signals.Swept: self._swept,
            signals.LoopBlocked: lambda of: self._add("bus.loop.blocked", by=of.seconds),
        }

    def _ran(self, run: HandlerRun) -> None:
        """Notes how long a run took, as often as it stands for others. Their number is counted
        elsewhere."""
        _, duration = RUNS[type(run)]
        with self._lock:
            self._add_to(duration, run.seconds, run.message, run.outcome, weight=run.runs)

    def _stored(self, of: signals.EventsStored) -> None:
        with self._lock:
            self._counts["bus.stored.commits"][()] += of.commits
            self._counts["bus.stored.events"][()] += of.events
            self._counts["bus.stored.bytes"][()] += of.size
            self._add_to("bus.store.duration", of.seconds)

    def _published(self, of: signals.Published) -> None:
        with self._lock:
            self._counts["bus.published"][()] += of.messages - of.failed
            self._counts["bus.publish.failed"][()] += of.failed
            self._add_to("bus.publish.duration", of.seconds)

    def _received(self, of: signals.Received) -> None:
        with self._lock:
            self._counts["bus.received"][of.queue,] += of.messages
            if of.oldest is not None:
                self._add_to("bus.queue.delay", of.oldest, of.queue)

    def _settled(self, of: signals.Settled) -> None:
        with self._lock:
            self._counts["bus.settled"][of.queue, of.outcome] += of.messages

    def _retried(self, of: signals.Retried) -> None:
        error = self._known("bus.retries", of.error)
        self._add("bus.retries", of.queue, error, "true" if of.in_place else "false")

    def _gave_up(self, of: signals.GaveUp) -> None:
        self._add("bus.given_up", of.queue, self._known("bus.given_up", of.error))

    def _projected(self, of: signals.BatchProjected) -> None:
        name = of.projection
        with self._lock:
            self._counts["bus.projection.events"][name,] += of.events
            self._counts["bus.projection.healed"][name,] += of.healed
            self._counts["bus.projection.duplicates"][name,] += of.duplicates
            self._add_to("bus.projection.batch", of.arrived, name)
            self._add_to("bus.projection.duration", of.seconds, name)
            if of.events:
                self._add_to("bus.projection.visible", of.oldest, name)

    def _swept(self, of: signals.Swept) -> None:
        self._add("bus.projection.swept", of.projection, by=of.missing)

    def _connect(self, purpose: str, value: float) -> None:
        with self._lock:
            self._connected[(purpose,)] = value

    def _known(self, metric: str, error: str) -> str:
        """Returns the type of an error, or OTHER if the metric has too many already."""
        with self._lock:
            known = self._errors.setdefault(metric, set())
            if error not in known and len(known) >= MOST_ERRORS - 1:
                return OTHER
            known.add(error)
        return error

    def _add(self, metric: str, *labels: str, by: float = 1) -> None:
        with self._lock:
            self._counts[metric][labels] += by

    def _add_to(self, histogram: str, value: float, *labels: str, weight: int = 1) -> None:
        """Adds a value; the caller holds the lock."""
        of = self._histograms[histogram]
        found = of.get(labels)
        if found is None:
            found = of[labels] = _Histogram(METRICS[histogram].buckets)
        found.add(value, weight)


class _Histogram:
    """Counts values by bucket."""

    __slots__ = ("_buckets", "_counts", "_total")

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._total = 0.0

    def add(self, value: float, weight: int) -> None:
        self._counts[bisect_left(self._buckets, value)] += weight
        self._total += value * weight

    def read(self) -> Distribution:
        return Distribution(tuple(self._counts), self._total)


def _add_runs(counts: Numbers, runs: Iterable[Counted], *, times: int = 1) -> None:
    """Adds them, those that never came about as 0: a rate shows the first one only then."""
    for run in runs:
        of = counts.setdefault(RUNS[run.kind][0], {})
        for outcome in ("done", "failed", "put_off"):
            labels = (run.message, run.handler, outcome)
            of[labels] = of.get(labels, 0) + times * getattr(run, outcome)


def joined(readings: Iterable[Reading]) -> Reading:
    """Returns what several buses, or processes, have counted together. Of gauges that two tell, the
    one that shows trouble counts."""
    counters: Numbers = {}
    gauges: Numbers = {}
    histograms: dict[str, dict[Labels, Distribution]] = {}
    for reading in readings:
        for name, values in reading.counters.items():
            _join(counters.setdefault(name, {}), values, add)
        for name, values in reading.gauges.items():
            worse = min if name == "bus.connected" else max
            _join(gauges.setdefault(name, {}), values, worse)
        for name, found in reading.histograms.items():
            _join(histograms.setdefault(name, {}), found, _together)
    return Reading(counters, gauges, histograms)


def _join(
    into: dict[Labels, Value],
    values: Mapping[Labels, Value],
    of_two: Callable[[Value, Value], Value],
) -> None:
    for labels, value in values.items():
        into[labels] = of_two(into[labels], value) if labels in into else value


def _together(one: Distribution, other: Distribution) -> Distribution:
    counts = Counter[int]()
    for found in (one, other):
        counts.update(dict(enumerate(found.counts)))
    return Distribution(tuple(counts[n] for n in range(len(one.counts))), one.total + other.total)
