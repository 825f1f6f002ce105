"""Names by which an index is found: all of them hide what readers must not find."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bus.stores.search.engine import Engine
from bus.stores.search.index import Index
from bus.stores.search.writing.records import SHOWN


async def show(engine: Engine, name: str, index: Index | None) -> str | None:
    """Has an alias `name` lead to an index alone, or to none; returns what prevents it, or None.

    Raises: StoreUnavailable.
    """
    led = await _led(engine, name)
    if others := sorted(found for found in led if not _is_own(name, found)):
        what = "an index" if name in others else f"an alias of {others[0]}"
        return (
            f"there is no alias {name!r} of what is read, because there is {what} of that name; it "
            f"is left as it is: remove it, or rename the projection (or give its SearchIndex a "
            f"prefix=)"
        )
    wanted = index.name if index else None
    actions = [_action("remove", found, name) for found in led if found != wanted]
    if wanted and led.get(wanted) != SHOWN:
        actions.append(_action("add", wanted, name, filter=SHOWN))
    if actions:
        await engine.ask("POST", "/_aliases", {"actions": actions})
    return None


async def hide_hidden(index: Index) -> None:
    """Makes the index's own alias anew, if it is missing. Raises: StoreUnavailable."""
    action = _action("add", index.name, index.alias, filter=SHOWN)
    await index.engine.ask("POST", "/_aliases", {"actions": [action]})


async def _led(engine: Engine, name: str) -> dict[str, Any]:
    """Returns the indices to which a name leads, with the filters; an index leads to itself."""
    found: Mapping[str, Any] = await engine.ask("GET", f"/{quote(name)}/_alias") or {}
    return {index: held["aliases"].get(name, {}).get("filter") for index, held in found.items()}


def _is_own(name: str, index: str) -> bool:
    """Returns whether it is an index of the projection's."""
    return bool(re.fullmatch(rf"{re.escape(name)}__v\d+(r\d+)?", index))


def _action(verb: str, index: str, alias: str, **more: Any) -> dict[str, Any]:
    return {verb: {"index": index, "alias": alias, **more}}
