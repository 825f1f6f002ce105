"""Switch: has a bus tell its traces and metrics, from its opening to its closing.

It imports nothing of OpenTelemetry: who has set it up in this process has imported it.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from bus import opening
from bus.assembly.runtime import HasRuntime, Runtime
from bus.common.exceptions import own
from bus.observe.listeners import Signals
from bus.observe.log import Logger

End = Callable[[], object]
Attach = Callable[[Runtime, Any], End | None]
"""Takes an opening and the provider that is set up, or None; returns what ends it, if it began."""

NAME = "doubledecker"
"""As OTEL_PYTHON_DISABLED_INSTRUMENTATIONS knows us, and automatic instrumentation."""


class Part(NamedTuple):
    """A module with an `attach` (see `Attach`), imported only if it is wanted. If it `needs_it`,
    it does nothing without a provider of that kind."""

    module: str
    provider: Literal["tracer", "meter"]
    needs_it: bool


PARTS = [
    Part("bus.telemetry.tracing", "tracer", needs_it=True),
    Part("bus.telemetry.metrics", "meter", needs_it=False),
]

log = Logger("bus.telemetry")


class Providers(NamedTuple):
    """Whose traces and meters are used; None for none, or where they are given for those that the
    process has set up. With `is_off`, none are."""

    tracer: Any = None
    meter: Any = None
    is_off: bool = False


OFF = Providers(is_off=True)


def instrument(bus: HasRuntime, *, tracer_provider: Any = None, meter_provider: Any = None) -> None:
    """Has a bus tell these providers its traces and metrics, or those that the process has set up.

    It may be open already. By itself it uses those that are set up when it opens.
    """
    _given[bus.runtime.signals] = Providers(tracer_provider, meter_provider)
    again(bus.runtime.signals)


def uninstrument(bus: HasRuntime) -> None:
    """Ends the traces and metrics of a bus, also of its later openings."""
    _given[bus.runtime.signals] = OFF
    again(bus.runtime.signals)


def instrument_all(tracer_provider: Any = None, meter_provider: Any = None) -> None:
    """Has all buses of this process tell these providers, unless they were given others."""
    _process.given = Providers(tracer_provider, meter_provider)
    for signals in list(_open):
        again(signals)


def uninstrument_all() -> None:
    """Ends the traces and metrics of all buses of this process, also of later ones."""
    _process.given = OFF
    for signals in list(_open):
        again(signals)


def providers(runtime: Runtime) -> Providers:
    """Returns whose traces and meters an opening of this bus uses."""
    own, whole = _given.get(runtime.signals, Providers()), _process.given
    if own.is_off or whole.is_off or _is_refused(runtime):
        return OFF
    return Providers(
        own.tracer or whole.tracer or _set_up("trace", "Tracer"),
        own.meter or whole.meter or _set_up("metrics", "Meter"),
    )


def install() -> None:
    """Has each bus attached that opens in this process."""
    if attach not in opening.attachers:
        opening.attachers.append(attach)


def attach(runtime: Runtime) -> Callable[[], None]:
    """Begins traces and metrics of an opening, if they are wanted; returns what ends them. Raises
    nothing."""
    attached = _Attached(runtime)
    _open.setdefault(runtime.signals, []).append(attached)
    attached.begin()

    def detach() -> None:
        _open[runtime.signals].remove(attached)
        attached.end()

    return detach


def again(signals: Signals) -> None:
    """Attaches the openings of a bus anew: all end first, so that nobody is told who was before."""
    openings = list(_open.get(signals, ()))
    for attached in openings:
        attached.end()
    for attached in openings:
        attached.begin()


class _Attached:
    """One opening of a bus, and what ends its traces and metrics."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._ends: list[End] = []

    def begin(self) -> None:
        found = providers(self._runtime)
        if found.is_off:
            return
        for part in PARTS:
            provider = getattr(found, part.provider)
            if provider or not part.needs_it:
                self._attach(part.module, provider)

    def end(self) -> None:
        while self._ends:
            end = self._ends.pop()
            try:
                end()
            except BaseException as error:
                _note(error, "end")

    def _attach(self, module: str, provider: Any) -> None:
        try:
            attach: Attach = import_module(module).attach
            end = attach(self._runtime, provider)
        except BaseException as error:
            _note(error, module)
        else:
            if end:
                self._ends.append(end)


class _Process:
    """What was said for all buses of the process."""

    given = Providers()


def _is_refused(runtime: Runtime) -> bool:
    named = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    disabled = {NAME, "*"} & {name.strip() for name in named}
    return runtime.settings.telemetry == "never" or bool(disabled)


def _set_up(module: str, kind: str) -> Any:
    """Returns the process's own provider, if somebody has set one up: not what stands in for it."""
    api = sys.modules.get(f"opentelemetry.{module}")
    get = getattr(api, f"get_{kind.lower()}_provider", None)
    if api is None or get is None:
        return None
    try:
        provider = get()
    except BaseException as error:  # as for an OTEL_PYTHON_TRACER_PROVIDER that is not installed
        _note(error, module)
        return None
    stand_ins = (f"Proxy{kind}Provider", f"_Proxy{kind}Provider", f"NoOp{kind}Provider")
    return None if type(provider).__name__ in stand_ins else provider


def _note(error: BaseException, what: str) -> None:
    if not own(error):
        raise error
    log.error("telemetry_failed", part=what, exc_info=error)


_given: "WeakKeyDictionary[Signals, Providers]" = WeakKeyDictionary()
_open: "WeakKeyDictionary[Signals, list[_Attached]]" = WeakKeyDictionary()
_process = _Process()
