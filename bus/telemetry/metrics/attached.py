"""Attached: the metrics of a bus in this process, from when they are wanted.

They are where the process has a health port and prometheus-client, where it has set up a meter
provider, or once somebody asks for them.
"""

import platform
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from bus.assembly.runtime import HasRuntime, Runtime
from bus.errors import ConfigurationError
from bus.observe.listeners import NoPage, Signals
from bus.settings import MEMORY
from bus.telemetry.metrics.processes import Shared, shared_folder
from bus.telemetry.metrics.states import States
from bus.telemetry.metrics.tally import Labels, Numbers, Reading, Tally, joined
from bus.telemetry.switch import again as attach_again
from bus.version import __version__

if TYPE_CHECKING:
    from bus.telemetry.metrics.meter import Meters
    from bus.telemetry.metrics.prometheus import Families

PAGE = "/metrics"
FRESH = 3
"""For so many times `facts_every` an answer about health is told, if nobody asks again."""
LACKS = (
    "metrics need prometheus-client, which is not installed: pip install 'doubledecker[prometheus]'"
)


class Metrics:
    """The metrics of one bus, in all of its event loops."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._tally = Tally()
        self._states = States()
        self._runtimes: list[Runtime] = []
        self._stops: list[Callable[[], None]] = []
        self._shared: Shared | None = None
        self._meters: dict[int, Meters] = {}
        self._told: dict[int, Any] = {}
        """The providers that are told at present."""
        self._lock = RLock()
        self.is_asked = False
        """Whether somebody shows them elsewhere than at a health port."""

    def begin(self, runtime: Runtime, provider: Any = None) -> Callable[[], None]:
        """Begins to count what is done here, and to tell it to a meter provider, if there is one;
        returns what ends that. What was counted stays."""
        with self._lock:  # buses may be opened in several threads at once
            if not self._runtimes:
                signals = runtime.signals
                self._stops = [*self._tally.listen(signals), *self._states.listen(signals)]
                self._share()
            if provider is not None and id(provider) not in self._told:
                self._measure(runtime, provider)
            self._runtimes.append(runtime)
            self._tally.count(runtime.dispatcher)
        return partial(self._end, runtime)

    def _end(self, runtime: Runtime) -> None:
        with self._lock:
            self._tally.end(runtime.dispatcher)
            self._runtimes.remove(runtime)
            if not self._runtimes:
                runtime.signals.pages.pop(PAGE, None)
                self._told.clear()
            while self._stops and not self._runtimes:
                self._stops.pop()()

    def _measure(self, runtime: Runtime, provider: Any) -> None:
        """Has instruments say what is counted. A provider that was used before has them still."""
        from bus.telemetry.metrics.meter import Meters

        meters = self._meters.get(id(provider))
        if meters is None or meters.provider is not provider:
            meters = self._meters[id(provider)] = Meters(self.service, provider, self.read)
        self._told[id(provider)] = provider
        system = "memory" if runtime.settings.amqp_url == MEMORY else "rabbitmq"
        self._stops += meters.listen(runtime.signals, system)

    def _share(self) -> None:
        if folder := shared_folder():
            self._shared = self._shared or Shared(folder, self.service, self.read)
            self._shared.start()
            self._stops.append(self._shared.stop)

    def read(self) -> Reading:
        """Returns all of them, as far as they are known; asks nobody."""
        here = [Reading({}, _gauges(runtime), {}) for runtime in list(self._runtimes)]
        return joined([self._tally.read(), Reading({}, self._states.read(), {}), *here])

    def everywhere(self) -> list[tuple[str, Reading]]:
        """Returns them by service: those of other processes and buses, too, if they are shared."""
        return self._shared.all() if self._shared else [(self.service, self.read())]

    def text(self, accept: str) -> tuple[str, bytes]:
        """Returns them as text for Prometheus, with its content type."""
        from bus.telemetry.metrics.prometheus import text

        return text(self.everywhere, accept)

    async def page(self, accept: str) -> tuple[str, bytes]:
        """Returns them as a page of the health port. Raises: NoPage."""
        if not _is_installed():
            raise NoPage(LACKS)
        return self.text(accept)


def attach(runtime: Runtime, provider: Any = None) -> Callable[[], object]:
    """Begins to count what an opening of a bus does, if somebody can see it; returns what ends
    that."""
    signals, has_port = runtime.signals, runtime.settings.health_port > 0
    metrics = _of(signals)
    if has_port:
        signals.pages[PAGE] = metrics.page
    if metrics.is_asked or provider is not None or (has_port and _is_installed()):
        return metrics.begin(runtime, provider)
    return lambda: signals.pages.pop(PAGE, None)


def page(bus: HasRuntime, accept: str = "") -> tuple[str, bytes]:
    """Returns the metrics of a bus in this process as text for Prometheus: the content type, and
    the body. `accept` is the request's header. With it come all others that the process registers
    with prometheus-client.

    They are counted from the first call on, or from the opening on where the process has a health
    port; `page(bus)` before the bus is opened counts all. Raises: ConfigurationError if
    prometheus-client is not installed.
    """
    return _asked(bus).text(accept)


def collector(bus: HasRuntime) -> "Families":
    """Returns the metrics of a bus for a registry of prometheus-client: `REGISTRY.register(
    collector(bus))`, for an application that shows a page of its own. As `page`, otherwise."""
    metrics = _asked(bus)
    from bus.telemetry.metrics.prometheus import Families

    return Families(metrics.everywhere)


def _asked(bus: HasRuntime) -> Metrics:
    if not _is_installed():
        raise ConfigurationError(LACKS)
    runtime = bus.runtime
    metrics = _of(runtime.signals)
    if not metrics.is_asked:
        metrics.is_asked = True
        attach_again(runtime.signals)
    return metrics


def _of(signals: Signals) -> Metrics:
    return _known.setdefault(signals, Metrics(signals.service))


def _is_installed() -> bool:
    return find_spec("prometheus_client") is not None


def _gauges(runtime: Runtime) -> Numbers:
    """Returns what is known of this process at this moment."""
    checkup = runtime.checkup
    last = checkup.recent(FRESH * runtime.settings.facts_every)
    health: dict[Labels, float] = dict.fromkeys(checkup.parts, 0.0) if last else {}
    for problem in last.problems if last else ():
        health[problem.part, problem.breaks] = 1.0
    info = (
        __version__,
        platform.python_version(),
        runtime.transport.description,
        _store(runtime),
    )
    return {
        "bus.health": health,
        "bus.loops.failing": {(failing.loop,): 1.0 for failing in runtime.loops.failing},
        "bus.info": {info: 1.0},
    }


def _store(runtime: Runtime) -> str:
    """Returns what the event log is in: "postgresql", "mysql", "mongodb" or "memory"."""
    settings = runtime.settings
    if settings.log_url:
        return settings.log_url.partition(":")[0].partition("+")[0]
    return "memory" if settings.mongo_url == MEMORY else "mongodb"


_known: "WeakKeyDictionary[Signals, Metrics]" = WeakKeyDictionary()
