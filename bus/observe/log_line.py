"""Log line: writes one line of the log, whatever the program's own processors do with it.

structlog finds a line's caller by skipping frames of modules called structlog. `__name__` below has
it skip this module's frames, too: otherwise each line would seem to come from here.
"""

import sys
from typing import Any

from bus.observe.lines import LINES

__name__ = "structlog.bus"


def log_line(name: str, method: str, event: str, /, **values: Any) -> None:
    """Logs an event by structlog's logger `name`. Raises nothing: a log must not stop the work."""
    error = sys.exc_info()[1]
    try:
        import structlog

        from bus.observe.log import configure_default

        configure_default()
        getattr(structlog.get_logger(name), method)(event, **values)
    except Exception as failure:
        if method == "exception":
            values = {"exc_info": error, **values}
        _log_plainly(name, method, event, values, failure)


def _log_plainly(
    name: str, method: str, event: str, values: dict[str, Any], failure: Exception
) -> None:
    """Writes the line without the program's processors, because one of them failed."""
    try:
        from bus.observe.log import plain_line

        LINES.write(plain_line(event, method, {"logger": name, **values}, failure))
    except Exception:
        LINES.dropped += 1
