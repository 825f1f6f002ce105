"""Catalogue: every metric that there is. Prometheus and OpenTelemetry get the same ones.

All have the label `service` besides those listed. No label is an id, a stream or a reason. A metric
of the whole service is told by one of its processes, the one that measures; all others by each
process for itself.
"""

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds. These are the buckets of OpenTelemetry's conventions."""
DELAYS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
          3600.0)  # fmt: skip
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)

MOST_ERRORS = 50
"""So many types of errors a metric has as values of its label; the rest are OTHER."""
OTHER = "other"

UNITS = {"": "", "s": "_seconds", "By": "_bytes"}


class Metric(NamedTuple):
    """One metric. `name` is OpenTelemetry's, `unit` too: seconds ("s"), bytes ("By"), or a number
    of things (""). `of` is what a value is about: this process, or the whole service."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    of: Literal["process", "service"] = "process"

    @property
    def family(self) -> str:
        """Its name for Prometheus, without the end of a counter's: "bus_loop_blocked_seconds"."""
        name, unit = self.name.replace(".", "_"), UNITS[self.unit]
        return name if name.endswith(unit) else name + unit

    @property
    def exposed(self) -> str:
        """Its name for Prometheus, as queries have it; those of a histogram begin with it."""
        return f"{self.family}_total" if self.kind == "counter" else self.family


def _counter(name: str, help: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, "counter", unit, labels, help=help)


def _gauge(name: str, help: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, "gauge", unit, labels, help=help)


def _state(name: str, help: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, "gauge", unit, labels, help=help, of="service")


def _seconds(name: str, help: str, *labels: str, buckets: tuple[float, ...] = DURATIONS) -> Metric:
    return Metric(name, "histogram", "s", labels, help=help, buckets=buckets)


CATALOGUE: tuple[Metric, ...] = (
    # Handlers
    _counter("bus.commands", "runs of commands' handlers", "message", "handler", "outcome"),
    _counter("bus.queries", "runs of queries' handlers", "message", "handler", "outcome"),
    _counter(
        "bus.events.handled", "runs of events' handlers", "message", "subscription", "outcome"
    ),
    _seconds("bus.command.duration", "how long a command's handler ran", "message", "outcome"),
    _seconds("bus.query.duration", "how long a query's handler ran", "message", "outcome"),
    _seconds("bus.event.duration", "how long an event's handler ran", "message", "outcome"),
    _counter("bus.conflicts", "runs repeated because another writer was first", "message"),
    _counter("bus.repeats", "commands answered from the log, having been repeated", "message"),
    # The log
    _counter("bus.stored.commits", "commits stored"),
    _counter("bus.stored.events", "events stored"),
    _counter("bus.stored.bytes", "size of the messages stored to be published", unit="By"),
    _seconds("bus.store.duration", "how long storing took; with a Session, the transaction"),
    # The broker
    _counter("bus.published", "messages that the broker confirmed"),
    _counter("bus.publish.failed", "messages that the broker did not confirm; the relay has them"),
    _seconds("bus.publish.duration", "from publishing a batch to the broker's answer"),
    _counter("bus.relayed", "commits that the relay published"),
    _state("bus.unpublished", "commits stored and not confirmed by the broker, 10,000 at most"),
    _state("bus.unpublished.age", "how long the oldest of these has waited", unit="s"),
    _gauge("bus.connected", "1 while a connection to the broker is open, else 0", "purpose"),
    # Queues
    _counter("bus.received", "messages that arrived", "queue"),
    _counter("bus.settled", "messages acknowledged: done, put off or given up", "queue", "outcome"),
    _seconds(
        "bus.queue.delay",
        "age of each batch's oldest message as it arrived, but for retries and delays",
        "queue",
        buckets=DELAYS,
    ),
    _counter("bus.retries", "failed tries that others follow", "queue", "error", "in_place"),
    _counter("bus.put_off", "tries that asked for a later one (Retry)", "queue"),
    _counter("bus.given_up", "messages that became dead letters", "queue", "error"),
    _state("bus.dead_letters", "dead letters there are", "queue", "message", "error"),
    _state("bus.queue.messages", "messages ready in a queue", "queue"),
    _state("bus.queue.consumers", "consumers that a queue has", "queue"),
    _state("bus.queue.consumers.expected", "consumers that it needs at least", "queue"),
    # Projections
    _counter("bus.projection.events", "events applied from batches", "projection"),
    _counter("bus.projection.healed", "of these, those read from the log", "projection"),
    _counter("bus.projection.duplicates", "events that had been applied before", "projection"),
    _counter("bus.projection.swept", "events that sweeps found missing, and applied", "projection"),
    Metric(
        "bus.projection.batch",
        "histogram",
        "",
        ("projection",),
        help="events that arrived in a batch",
        buckets=SIZES,
    ),
    _seconds("bus.projection.duration", "how long applying a batch took", "projection"),
    _seconds(
        "bus.projection.visible",
        "from stored to visible, of the oldest event of each batch",
        "projection",
        buckets=DELAYS,
    ),
    _state(
        "bus.projection.lag",
        "how long the oldest event that is not applied has waited",
        "projection",
        unit="s",
    ),
    _state(
        "bus.projection.lag.events",
        "events not applied yet, of about 2,000 commits at most",
        "projection",
    ),
    _state("bus.projection.lag.more", "1 if there are more than these, else 0", "projection"),
    _state(
        "bus.projection.parked",
        'streams set aside, for an error (""), another service\'s event or another release',
        "projection",
        "waits_for",
    ),
    _state(
        "bus.projection.build",
        "share of a build that is done, 0 to 1",
        "projection",
        "collection",
    ),
    _state(
        "bus.projection.build.commits",
        "commits that a build has replayed",
        "projection",
        "collection",
    ),
    _state(
        "bus.projection.audit.time",
        "when it was audited last, as Unix time",
        "projection",
        unit="s",
    ),
    _state(
        "bus.projection.audit.differences",
        "documents that differ from the log, as audits know",
        "projection",
    ),
    _gauge(
        "bus.partition.held",
        "1 if this process gets a partition's messages, else 0",
        "projection",
        "partition",
        "process",
    ),
    # The process
    _gauge("bus.health", "1 while a part has a problem, else 0", "part", "breaks"),
    _counter("bus.loop.blocked", "how long something blocked the event loop", unit="s"),
    _gauge("bus.loops.failing", "1 while a loop fails", "loop"),
    _state("bus.facts.age", "since when states have not been measured", unit="s"),
    _state("bus.facts.failing", "1 while a part of them cannot be measured", "part"),
    _gauge(
        "bus.info", "1, and by its labels what runs here", "version", "python", "broker", "store"
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in CATALOGUE}
"""All metrics, by OpenTelemetry's name."""
