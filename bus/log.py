"""Structured logging: who is speaking, about which message. Never a payload."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from bus.fingerprint import reason_of
from bus.messages import Envelope

MOST_CAUSES = 5

current_envelope: ContextVar[Envelope | None] = ContextVar("current_envelope", default=None)
current_attempt: ContextVar[int] = ContextVar("current_attempt", default=1)
current_handler: ContextVar[str] = ContextVar("current_handler", default="")


class Logger:
    """structlog's logger of that name, got when there is a line to tell.

    Importing structlog brings rich, where that is installed: a sixth of the time that `import bus`
    would take. While nobody in the process has imported it, nobody has configured it, and then
    warnings and worse alone are told.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        """structlog's own method, so that a line is its caller's, not this module's."""
        if method in ("debug", "info") and "structlog" not in sys.modules:
            return _not_told
        import structlog

        configure_default()
        return getattr(structlog.get_logger(self._name), method)


def _not_told(_event: str, **_values: Any) -> None:
    pass


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


def add_exception(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Adds where an error was raised and what it says, each error in one line of its own.

    No values in which a model found a mistake, and of the errors behind it their types only: a
    library's own words may quote what it was given.
    """
    told = line.pop("exc_info", None)
    error = sys.exc_info()[1] if told is True else told[1] if isinstance(told, tuple) else told
    if isinstance(error, BaseException):
        line["exception"] = "\n".join(_told(error))
    return line


def _told(error: BaseException) -> list[str]:
    """The error, where it was raised, and the types of those that led to it."""
    before: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None and len(before) < MOST_CAUSES:
        before.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    frames = "".join(traceback.format_tb(error.__traceback__)).splitlines()
    after = f" (after {', '.join(before)})" if before else ""
    return [*frames, printable(f"{type(error).__name__}: {reason_of(error)}{after}")]


def escape_control_characters(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Keeps a hostile string, however deep in a value, from breaking out of its log line."""
    for key, value in line.items():
        if key != "exception":
            line[key] = _harmless(value)
    return line


def _harmless(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case bool() | int() | float() | None:
            return value
        case dict():
            return {printable(str(key)): _harmless(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_harmless(one) for one in value]
        case BaseException():
            return printable(f"{type(value).__name__}: {reason_of(value)}")
    return printable(repr(value))


def printable(text: str) -> str:
    """The text with what is not printable written as hexadecimal numbers."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def configure(*, json: bool | None = None, level: str = "INFO") -> None:
    """Sets structlog up for a program: console on a terminal, JSON elsewhere, on standard error.

    A program that configures structlog itself need not call this; `add_message` is the processor
    to include.
    """
    import structlog

    json = not sys.stderr.isatty() if json is None else json
    last: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_message,
            add_exception,
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
    structlog = sys.modules.get("structlog")
    if structlog is not None and not structlog.is_configured():
        configure(level="WARNING")
