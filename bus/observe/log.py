"""Structured logging: which message a line is about, and who wrote it. Never a payload."""

import json as jsons
import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal, get_args

from bus.common import clock
from bus.common.fingerprint import reason_of
from bus.errors import ConfigurationError
from bus.messages import Envelope
from bus.observe.lines import LINES
from bus.observe.log_line import log_line

MOST_CAUSES = 5
_WRITE_THEMSELVES = (
    *("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"),
    *("aio_pika", "aiormq", "aiokafka", "pymongo", "opentelemetry"),
)
"""Loggers of libraries that may have been given handlers of their own."""
_LOGGED_BY_US = {
    "aiormq.connection": ("error when creating", "Unexpected connection close", "Cancelling cause"),
    "aiokafka": ("Unable ",),
}
"""How lines of libraries begin that say, at each try, what the bus logs once, with its reason."""
LogLevel = Literal["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"]
"""Listed, because other libraries add their own levels to those that `logging` knows."""

current_envelope: ContextVar[Envelope | None] = ContextVar("current_envelope", default=None)
current_attempt: ContextVar[int] = ContextVar("current_attempt", default=1)
current_handler: ContextVar[str] = ContextVar("current_handler", default="")
current_trace: ContextVar[str] = ContextVar("current_trace", default="")
"""The `traceparent` of the span that is open, where there are traces."""


class Logger:
    """structlog's logger of that name, made when there is a line to log. It raises nothing,
    whatever the program's own processors do, and even if nobody takes the line.

    Importing structlog imports rich, if that is installed: a sixth of the time that `import bus`
    would take. While nothing in the process has imported it, nobody has configured it, and only
    warnings and worse are logged.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        if method in ("debug", "info") and "structlog" not in sys.modules:
            return _log_nothing
        return partial(log_line, self._name, method)


def _log_nothing(_event: str, **_values: Any) -> None:
    pass


def plain_line(event: str, level: str, values: dict[str, Any], failure: Exception) -> str:
    """Returns a line that the program's own processors failed at, as JSON, with their failure."""
    line = add_message(None, level, {"event": event, "level": level, **values})
    line = escape_control_characters(None, level, add_exception(None, level, line))
    line["timestamp"] = clock.now().isoformat()
    line["log_failed"] = printable(f"{type(failure).__name__}: {reason_of(failure)}")
    return jsons.dumps(dict(line), default=repr)


def add_message(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Adds the identity of the message that is being handled, and of its trace."""
    if trace := current_trace.get():
        _, trace_id, span_id, _ = trace.split("-")
        line.setdefault("trace_id", trace_id)
        line.setdefault("span_id", span_id)
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
    """Adds where an error was raised and what it says, each error on a line of its own.

    Leaves out values that a model refused, and gives only the types of the errors behind it: a
    library's own words may quote what it was given.
    """
    given = line.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        line["exception"] = "\n".join(_described(error))
    return line


def _described(error: BaseException) -> list[str]:
    """Returns where the error was raised, what it says, and the types of those that led to it."""
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
            return {printable(str(key)): _harmless(entry) for key, entry in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_harmless(entry) for entry in value]
        case BaseException():
            return printable(f"{type(value).__name__}: {reason_of(value)}")
    return printable(repr(value))


def printable(text: str) -> str:
    """Returns the text with unprintable characters as hexadecimal numbers."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def configure(*, json: bool | None = None, level: str = "INFO") -> None:
    """Sets structlog up for a program: console on a terminal, JSON elsewhere, on standard error.
    What libraries log by `logging`, from warnings on (uvicorn: from info), and Python's own
    warnings go the same way, unless the program has given `logging` a handler.

    A program that configures structlog itself need not call this, but should include the processor
    `add_message`. Raises: ConfigurationError if there is no such level.
    """
    _configure(json, level)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_ToStructlog())
        logging.captureWarnings(capture=True)
    if any(isinstance(handler, _ToStructlog) for handler in root.handlers):
        _take_over()


def _take_over() -> None:
    """Removes the handlers of loggers that write plain text beside the others' lines.

    One that neither has a handler nor hands on was turned off, and stays so.
    """
    for name in _WRITE_THEMSELVES:
        logger = logging.getLogger(name)
        if logger.handlers:
            logger.handlers.clear()
            logger.propagate = True
    server = logging.getLogger("uvicorn")
    if server.level == logging.NOTSET:  # where it listens is said at this level
        server.setLevel(logging.INFO)


def _configure(json: bool | None, level: str) -> None:
    import structlog

    json = not sys.stderr.isatty() if json is None else json
    # add_exception has written the traceback already, which structlog below 26 warns of otherwise.
    plain = structlog.dev.plain_traceback
    last: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(exception_formatter=plain)
    )
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
        wrapper_class=structlog.make_filtering_bound_logger(_number_of(level)),
        logger_factory=lambda *_: _LineLogger(),
    )
    LINES.report = _log_dropped


def _number_of(level: str) -> int:
    name = level.upper() if isinstance(level, str) else level
    if name not in get_args(LogLevel):
        raise ConfigurationError(
            f"there is no log level {level!r}; give one of {', '.join(get_args(LogLevel))}"
        )
    return logging.getLevelNamesMapping()[name]


def _log_dropped(count: int) -> None:
    Logger("bus.log").warning("log_lines_dropped", count=count)


class _LineLogger:
    """structlog's last step: writes the line."""

    def msg(self, line: str) -> None:
        LINES.write(line)

    log = debug = info = warn = warning = error = critical = fatal = failure = exception = err = msg


class _ToStructlog(logging.Handler):
    """Passes what is logged by `logging` to structlog."""

    def __init__(self) -> None:
        super().__init__()
        self._here = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Logs a record; writes it plainly if it came back, as structlog may log by `logging`."""
        if getattr(self._here, "is_logging", False):
            LINES.write(printable(record.getMessage()))
            return
        self._here.is_logging = True
        try:
            level = logging.getLevelName(record.levelno).lower()
            method = level if level in ("debug", "info", "error", "critical") else "warning"
            if str(record.msg).startswith(_LOGGED_BY_US.get(record.name, ())):
                method = "debug"
            values: dict[str, Any] = {"logger": record.name}
            if record.exc_info and record.exc_info[1]:
                values["exc_info"] = record.exc_info[1]
            log_line(record.name, method, record.getMessage().strip(), **values)
        finally:
            self._here.is_logging = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        LINES.dropped += 1


def configure_default() -> None:
    """Has structlog log warnings and worse to standard error, if the program has not configured it.

    structlog's own default would print every line to the program's standard output.
    """
    structlog = sys.modules.get("structlog")
    if structlog is not None and not structlog.is_configured():
        _configure(None, "WARNING")
