"""Logged: which signals become lines of the log, at which level. The name of a signal is the event
of its line, and its fields are the line's, but for those that are empty."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from bus.observe import signals
from bus.observe.log import Logger
from bus.observe.signals import Signal

log = Logger("bus.signals")


def _of_parked(signal: signals.StreamParked) -> str:
    if signal.again:
        return "debug"
    return {"": "error", "event": "info", "release": "warning"}[signal.waits_for]


LEVELS: dict[type[Signal], str | Callable[[Any], str]] = {
    signals.MessageFailed: "info",
    signals.Relayed: "info",
    signals.Healed: "info",
    signals.Swept: "info",
    signals.StreamParked: _of_parked,
    signals.StreamReleased: "info",
    signals.Retried: lambda retried: "info" if retried.in_place else "warning",
    signals.PutOff: "debug",
    signals.GaveUp: "error",
    signals.LettersRepaired: "info",
    signals.Refused: "error",
    signals.BuildBegun: "info",
    signals.Rebuilt: "info",
    signals.ReadersMoved: "info",
    signals.ReadersStayed: "warning",
    signals.Repaired: "info",
    signals.Connected: "info",
    signals.Disconnected: "warning",
    signals.ConsumerReopened: "error",
    signals.WorkerStarted: "info",
    signals.WorkerStopped: "info",
}
"""Others happen too often: nothing is made of them unless somebody listens."""


def log_signal(signal: Signal) -> None:
    """Logs it, as LEVELS says."""
    level = LEVELS[type(signal)]
    named = {one.name: getattr(signal, one.name) for one in fields(signal)}
    said = {name: value for name, value in named.items() if value not in ("", None)}
    getattr(log, level if isinstance(level, str) else level(signal))(signal.name, **said)
