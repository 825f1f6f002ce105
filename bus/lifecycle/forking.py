"""Keeps a forked child from using what was opened before the fork.

Parent and child would write to the same connections. A child makes and opens its own.
"""

import os
from typing import Any, NoReturn
from weakref import WeakSet

from bus.errors import ConfigurationError
from bus.observe.health import Check, Checkup


class Parent:
    """Takes the place of a bus's runtime in a child, and refuses every access to it."""

    def __init__(self, service: str) -> None:
        self._what = (
            f"Bus({service!r}) was opened before this process was forked, and its connections are "
            f"the parent's; open a bus of its own in each process, after the fork (with gunicorn "
            f"--preload: at the application's start-up, not at its import)"
        )
        self.checkup = Checkup([Check("process", self._refusal, "alive")])

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigurationError(self._what)

    async def _refusal(self) -> str | None:
        return self._what


_open: "WeakSet[Any]" = WeakSet()
"""The objects to notify of a fork."""


def opened(what: Any) -> None:
    """Has its `forked` called in each child of this process, until it is `closed`."""
    _open.add(what)


def closed(what: Any) -> None:
    """Has its `forked` not called any more."""
    _open.discard(what)


def _in_child() -> None:
    for what in list(_open):
        what.forked()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
