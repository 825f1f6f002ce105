"""Places for documents that can do no more than they must."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from bus import Backend, Settings, default_backend
from bus.observe.loops import Loops
from bus.stores.collections import Collections
from bus.stores.memory import MemoryCollections


class PlainFiles:
    """A place for documents that can do no more than it must."""

    def __init__(self) -> None:
        self._within = MemoryCollections()

    def __getattr__(self, name: str) -> Any:
        if name not in vars(Collections):
            raise AttributeError(name)
        return getattr(self._within, name)


def on_plain_files(service: str, projected: Sequence[str], loops: Loops) -> Backend:
    """A backend whose documents are in such a place."""
    usual = default_backend(Settings.in_memory())(service, projected, loops)
    return replace(usual, collections=cast(Any, PlainFiles()))
