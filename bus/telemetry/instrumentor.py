"""Instrumentor: what `opentelemetry-instrument` starts by its name in setup.cfg's entry points.

It needs no base class of OpenTelemetry's, which would be one more thing to install.
"""

from collections.abc import Collection
from typing import Any

from bus.telemetry.switch import instrument_all, uninstrument_all


class BusInstrumentor:
    """Has all buses of a process tell their traces and metrics to what the process has set up."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Returns what must be installed, as this class's caller asks: no more than there is."""
        return ()

    def instrument(
        self, *, tracer_provider: Any = None, meter_provider: Any = None, **_options: Any
    ) -> None:
        """Begins; with providers of its own, if they are given."""
        instrument_all(tracer_provider, meter_provider)

    def uninstrument(self, **_options: Any) -> None:
        """Ends it, until `instrument` is called again."""
        uninstrument_all()
