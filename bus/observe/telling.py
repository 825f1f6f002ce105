"""Telling: one line of the log, whatever the program's own processors do with it.

structlog looks for a line's caller beyond its own frames. This module's frame is to be passed over
like them, hence its name in its frames.
"""

import sys
from typing import Any

from bus.observe.lines import LINES

__name__ = "structlog.bus"


def tell(name: str, method: str, event: str, /, **values: Any) -> None:
    """Tells it by structlog's logger of that name. Raises nothing: a log must not stop the work."""
    error = sys.exc_info()[1]
    try:
        import structlog

        from bus.observe.log import configure_default

        configure_default()
        getattr(structlog.get_logger(name), method)(event, **values)
    except Exception as failure:
        if method == "exception":
            values = {"exc_info": error, **values}
        _tell_plainly(name, method, event, values, failure)


def _tell_plainly(
    name: str, method: str, event: str, values: dict[str, Any], failure: Exception
) -> None:
    """Without the program's processors, one of which failed."""
    try:
        from bus.observe.log import plain_line

        LINES.write(plain_line(event, method, {"logger": name, **values}, failure))
    except Exception:
        LINES.dropped += 1
