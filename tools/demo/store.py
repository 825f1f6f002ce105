"""What the demo asks of each other store that read models are kept in."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

from tools.demo.fold import Collections

ANALYSIS, SEARCH, EVENTS = "JOBBOARD_ANALYSIS_URL", "JOBBOARD_SEARCH_URL", "JOBBOARD_EVENTS_URL"
"""The variables that name the stores to the service."""


class Store(Protocol):
    """A store, and what the demo's own run keeps there under names of its own.

    Read by its own client, as others would; no code is shared with the bus or the service.
    """

    repeated: int = 0
    """How much of it is there more than once, and told by its id and version."""

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """The variables that have the service keep something there."""

    @abstractmethod
    def make(self) -> None:
        """Makes what has to be there before. Raises: DemoFailed."""

    @abstractmethod
    def drop(self) -> None:
        """Removes what this run has kept there."""

    @abstractmethod
    def read(self) -> Collections:
        """Returns what is there; empty collections before a worker has made them."""

    def cut(self) -> bool:
        """Ends the connections of the service's processes; returns whether the server can."""
        return False
