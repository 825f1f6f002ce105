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


_OURS = object()
"""What stands there if it is the bus that wants quiet, and nobody who wants no spans of it."""
QUIET = Quiet({_SUPPRESSED: _OURS})


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
    value = context.get(_SUPPRESSED)
    return bool(value) and value is not _OURS


def aloud(context: Context) -> Context:
    """Returns the context without the bus's own quiet, for what is not the bus's own: a command
    that a handler executes, say, in a span of its own or not."""
    if context.get(_SUPPRESSED) is not _OURS:
        return context
    return Context({key: value for key, value in context.items() if key != _SUPPRESSED})


def _enter(of_service: bool) -> None:
    contexts.attach(Context() if of_service else QUIET)


_users: list[None] = []
