"""Attaching: has a bus tell its spans to a provider of OpenTelemetry."""

import os
from typing import Any

from opentelemetry.trace import NoOpTracer

from bus.assembly.runtime import Runtime
from bus.observe.signals import Conflicted
from bus.telemetry.tracing import quiet
from bus.telemetry.tracing.attributes import Conventions
from bus.telemetry.tracing.spans import SpanTracer
from bus.version import __version__


def attach(runtime: Runtime, provider: Any) -> "_Attached | None":
    """Has spans made of what happens in an opening; returns what ends that. None if the provider
    makes none (OTEL_SDK_DISABLED)."""
    tracer = provider.get_tracer("doubledecker", __version__)
    return None if isinstance(tracer, NoOpTracer) else _Attached(runtime, provider, tracer)


class _Attached:
    """One opening of a bus. All of them have one tracer, which goes with the last."""

    def __init__(self, runtime: Runtime, provider: Any, tracer: Any) -> None:
        self._signals = runtime.signals
        settings, before = runtime.settings, runtime.signals.tracer
        if isinstance(before, SpanTracer) and before.provider is provider:
            self._tracer = before
        else:
            conventions = Conventions(runtime.service, settings.amqp_url, os.environ)
            self._tracer = SpanTracer(tracer, conventions, settings.trace_share, provider)
            self._signals.trace(self._tracer)
        if not self._tracer.openings:
            self._tracer.stop = self._signals.listen(Conflicted, self._tracer.conflicted)
        self._tracer.openings += 1
        self._end_quiet = quiet.begin()

    def __call__(self) -> None:
        self._tracer.openings -= 1
        if not self._tracer.openings:
            self._tracer.stop()
            if self._signals.tracer is self._tracer:
                self._signals.trace(None)
        self._end_quiet()
