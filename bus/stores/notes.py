"""Notes: small shared records that several processes change, each from what stands there."""

from collections.abc import Callable

from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.stores.control import Control

TRIES = 100


async def change_note(store: Control, key: str, change: Callable[[Document], Document]) -> Document:
    """Changes a record; returns it as it is then. Raises: StoreUnavailable, and what `change` does.

    `change` may run several times: it is given what stands in the store just then.
    """
    for _ in range(TRIES):
        note = await store.note(key)
        after = change(note.value)
        if after == note.value or await store.write_note(note._replace(value=after)):
            return after
    raise StoreUnavailable(f"{key}: others changed it at each of {TRIES} tries; try again")
