"""Quiet: the context of work of the bus's own, such as polling: no trace's, and nobody's span.

The instrumentation of a driver, PyMongo's say, would make a trace of each idle look otherwise.
"""

from collections.abc import Callable

from opentelemetry import context as contexts
from opentelemetry.context import Context

from bus.common import tasks

_SUPPRESSED = getattr(contexts, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
"""What the instrumentations look for. The API names it for them alone."""


class Quiet(Context):
    """As good as none: who asks for each run whether there is a context shall not be held up."""

    def __bool__(self) -> bool:
        return False


QUIET = Quiet({_SUPPRESSED: True})


def begin() -> Callable[[], None]:
    """Has tasks that a bus starts for itself run in a quiet context from now on; returns what ends
    that, once all who began it have called it."""
    _users.append(None)
    tasks.entering = _enter

    def end() -> None:
        _users.pop()
        if not _users:
            tasks.entering = None

    return end


def is_suppressed(context: Context) -> bool:
    """Returns whether somebody else wants no spans here."""
    return bool(context.get(_SUPPRESSED)) and not isinstance(context, Quiet)


def _enter() -> None:
    contexts.attach(QUIET)


_users: list[None] = []
