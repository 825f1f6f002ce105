"""Structured logging: who is speaking, about which message. Never a payload."""

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog

from bus.messages import Envelope

current_envelope: ContextVar[Envelope | None] = ContextVar("current_envelope", default=None)
current_attempt: ContextVar[int] = ContextVar("current_attempt", default=1)
current_handler: ContextVar[str] = ContextVar("current_handler", default="")


def add_message(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Adds the identity of the message being handled."""
    envelope = current_envelope.get()
    if envelope is not None:
        line.setdefault("message", envelope.name)
        line.setdefault("message_id", envelope.id)
        line.setdefault("correlation_id", envelope.correlation_id)
        line.setdefault("causation_id", envelope.causation_id)
        line.setdefault("handler", current_handler.get())
        line.setdefault("attempt", current_attempt.get())
    return line


def escape_control_characters(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keeps a hostile string from breaking out of its log line."""
    for key, value in line.items():
        if key != "exception" and isinstance(value, str):
            line[key] = printable(value)
    return line


def printable(text: str) -> str:
    """The text on one line, control characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def configure(*, json: bool | None = None, level: str = "INFO") -> None:
    """Sets structlog up for a program: console on a terminal, JSON elsewhere, on standard error.

    A program that configures structlog itself need not call this; `add_message` is the processor
    to include.
    """
    json = not sys.stderr.isatty() if json is None else json
    last: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_message,
            structlog.processors.format_exc_info,
            escape_control_characters,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def configure_default() -> None:
    """Where the program left structlog as it is: warnings only, on standard error.

    structlog's own default would print every line into the program's standard output.
    """
    if not structlog.is_configured():
        configure(level="WARNING")
