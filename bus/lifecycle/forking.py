"""Forking: what was opened before a process was forked is not for its child.

Both would write to the same connections. A child makes and opens its own.
"""

import os
from typing import Any, NoReturn
from weakref import WeakSet

from bus.errors import ConfigurationError
from bus.observe.health import Check, Checkup


class Parent:
    """Stands in a child in the place of a bus's parts, and refuses each access to one."""

    def __init__(self, service: str) -> None:
        self._what = (
            f"Bus({service!r}) was opened before this process was forked, and its connections are "
            f"the parent's; open a bus of its own in each process, after the fork (with gunicorn "
            f"--preload: at the application's start-up, not at its import)"
        )
        self.checkup = Checkup([Check("process", self._told, "alive")])

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigurationError(self._what)

    async def _told(self) -> str | None:
        return self._what


_open: "WeakSet[Any]" = WeakSet()
"""Those that are told of a fork."""


def opened(one: Any) -> None:
    """From now on its `forked` is called in each child of this process."""
    _open.add(one)


def closed(one: Any) -> None:
    """From now on it is not."""
    _open.discard(one)


def _in_child() -> None:
    for one in list(_open):
        one.forked()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
