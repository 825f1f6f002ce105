"""A store of what is kept elsewhere: its server, the wire to it, and what stands in it."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from tools.faults.proxy import Proxy
from tools.services.node import Node
from tools.soak.log import Document

Rows = Mapping[str, Mapping[str, Document]]
"""Rows by key, by what they are."""


class Store(ABC):
    """One server of its own, which the service reaches by `wire` alone; all else goes past it."""

    name: str
    node: Node
    wire: Proxy

    @abstractmethod
    def start(self) -> None:
        """Start it (again), and let the service in; returns when it can work."""

    @abstractmethod
    def wipe(self) -> None:
        """Crash it, and delete all that it has; `start` brings it back empty."""

    @abstractmethod
    def refusing(self) -> AbstractContextManager[None]:
        """Have it refuse writes, meanwhile, as when it is read-only or full."""

    @abstractmethod
    def has(self, jobs: Collection[str]) -> set[str]:
        """Those of the jobs that are found in it. Raises `AWAY`."""

    def rows(self) -> Rows:
        """What readers find under the names that are shown, if it has rows. Raises `AWAY`."""
        return {}

    def connections(self) -> Sequence[str]:
        """The service's, in words."""
        return []

    def end(self) -> None:
        self.node.close(remove=True)
