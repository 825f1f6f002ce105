"""Handlers whose annotations are text, of which some cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bus
from bus import Command, Event, Update

if TYPE_CHECKING:
    from decimal import Decimal


class Enter(Command):
    pass


class Entered(Event):
    pass


async def open_shop(command: Enter, outbox: bus.Outbox | None = None) -> str:
    return type(outbox).__name__


async def not_imported(command: Enter, price: Decimal) -> None: ...


async def misspelt(command: Enter, event: bus.Opend) -> None: ...  # type: ignore[name-defined]


def projected(event: Entered, price: Decimal) -> Update:
    return {}
