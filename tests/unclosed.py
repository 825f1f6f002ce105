"""Names of transports that nobody closed: which test opened one, and to whom. The warning of one
comes when it is collected, in whichever test that is."""

import os
from asyncio import selector_events
from typing import Any

_Transport: Any = selector_events._SelectorTransport  # type: ignore[attr-defined]


def _named(transport: Any) -> str:
    return f"{_unnamed(transport)} to {transport._peer}, opened in {transport._test}"


def _opened(transport: Any, *given: Any, **named: Any) -> None:
    transport._test = os.environ.get("PYTEST_CURRENT_TEST", "no test")
    transport._peer = None
    _open(transport, *given, **named)
    transport._peer = transport.get_extra_info("peername")


_open, _unnamed = _Transport.__init__, _Transport.__repr__
_Transport.__init__, _Transport.__repr__ = _opened, _named
