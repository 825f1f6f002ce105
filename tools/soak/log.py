"""Where the service's log is: what a soak reads there past the bus, and which server it breaks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from tools.services.node import Node

MONGODB, POSTGRESQL, MARIADB = "mongodb", "postgresql", "mariadb"
SQL = (POSTGRESQL, MARIADB)
LOGS = (MONGODB, *SQL)

OF_MODELS = ("job", "application", "purse")
"""The service's own stream, which tells of poison given up, is no matter of the models."""

Document = dict[str, Any]


class Log(ABC):
    """A log in one store. Commits look the same, whichever it is."""

    node: Node
    """The server, or the member of a set, that is killed and frozen."""
    url = ""
    """Where the service finds it, if that is not where its documents are."""

    @abstractmethod
    def start(self) -> None:
        """Start the server (again); returns when it takes commits."""

    @abstractmethod
    def commits(self) -> list[Document]:
        """The commits of `OF_MODELS`, those of a stream in the order of its versions."""

    @abstractmethod
    def pending(self) -> int:
        """How many commits are not published."""

    @abstractmethod
    def publish_again(self, category: str, *, skip: int, count: int) -> None:
        """Mark `count` commits as not published: the latest, but for the `skip` very latest."""

    @abstractmethod
    def noted(self) -> dict[str, int]:
        """How often each event was noted by handlers in their sessions, by its id."""

    def connections(self) -> Sequence[str]:
        """The service's, in words; those at MongoDB are looked for in any case."""
        return []
