"""ReadStore: the read side's store of a service, as one object: all that is asked of it."""

from typing import Protocol

from bus.stores.collections import Browsable, Collections, Comparable, LoadsInBulk, Watchable
from bus.stores.control import Control


class ReadStore(Collections, LoadsInBulk, Comparable, Watchable, Browsable, Control, Protocol):
    """A place for documents that can do everything, and the service's own records beside them."""
