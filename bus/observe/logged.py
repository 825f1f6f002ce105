"""Logged: which signals become lines of the log, at which level. A line's event is the signal's
name, and its fields are the signal's, except empty ones."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from bus.observe import signals
from bus.observe.log import Logger
from bus.observe.signals import Signal

log = Logger("bus.signals")

MANY = 100
"""Events: as many that came late or twice in one batch are more than the usual redeliveries."""


def _of_parked(signal: signals.StreamParked) -> str:
    if signal.again:
        return "debug"
    return {"": "error", "event": "info", "release": "warning"}[signal.waits_for]


def _of_retried(signal: signals.Retried) -> str:
    if signal.in_place:
        return "debug"
    return "warning" if signal.is_last else "info"


def _of_relayed(signal: signals.Relayed) -> str:
    """While the broker is away, `not_published` has said so; at the end, one line is enough."""
    return "debug" if signal.waiting or signal.more else "info"


def _of_healed(signal: signals.Healed) -> str:
    return "info" if signal.healed + signal.duplicates >= MANY else "debug"


LEVELS: dict[type[Signal], str | Callable[[Any], str]] = {
    signals.MessageFailed: "info",
    signals.Relayed: _of_relayed,
    signals.Healed: _of_healed,
    signals.Swept: "info",
    signals.StreamParked: _of_parked,
    signals.StreamReleased: "info",
    signals.Retried: _of_retried,
    signals.PutOff: "debug",
    signals.GaveUp: "error",
    signals.LettersRepaired: "info",
    signals.Refused: "error",
    signals.BuildBegun: "info",
    signals.Rebuilt: "info",
    signals.ReadersMoved: "info",
    signals.ReadersStayed: "warning",
    signals.Repaired: "info",
    signals.ProjectionAudited: lambda audited: "warning" if audited.differences else "info",
    signals.Connected: "info",
    signals.Disconnected: "warning",
    signals.ConsumerReopened: "error",
    signals.WorkerStarted: "info",
    signals.WorkerStopped: "info",
    signals.ListenerBehind: "warning",
}
"""Others happen too often: no signal is made of them unless somebody listens."""


def log_signal(signal: Signal) -> None:
    """Logs a signal, at its level in LEVELS."""
    level = LEVELS[type(signal)]
    named = {field.name: getattr(signal, field.name) for field in fields(signal)}
    said = {name: value for name, value in named.items() if value not in ("", None)}
    getattr(log, level if isinstance(level, str) else level(signal))(signal.name, **said)
