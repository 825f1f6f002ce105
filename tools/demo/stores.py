"""The other stores of a run, by the names that `--stores` takes."""

from collections.abc import Callable, Iterable

from tools.demo.fold import Collections
from tools.demo.search import Searched
from tools.demo.statistics import Statistics
from tools.demo.store import ANALYSIS, EVENTS, Store
from tools.demo.store import SEARCH as SEARCHING
from tools.demo.tables import Tables
from tools.services import Found
from tools.services.finding import LABELS, Place
from tools.services.node import Node

TABLES, SEARCH, KAFKA = "tables", "search", "kafka"
SERVERS = {TABLES: "postgresql", SEARCH: "opensearch", KAFKA: "kafka"}
"""Which server each is on."""


def _records(url: str, service: str) -> Store:
    from tools.demo.records import Records  # its client takes a while to import

    return Records(url, service)


KINDS: dict[str, Callable[[str, str], Store]] = {
    TABLES: Tables,
    SEARCH: Searched,
    KAFKA: _records,
}


class Stores:
    """Those that a run was asked to keep something in besides; `statistics` go with Kafka."""

    def __init__(
        self, found: Found, names: Iterable[str], service: str, statistics: Statistics
    ) -> None:
        servers = {**found.sql, **found.java}
        self._places: dict[str, Place] = {name: servers[SERVERS[name]] for name in names}
        self._stores = {
            name: KINDS[name](place.url, service) for name, place in self._places.items()
        }
        self.statistics = statistics if KAFKA in self._stores else None

    def __bool__(self) -> bool:
        return bool(self._stores)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the service finds them, and none that somebody else has set."""
        found = dict.fromkeys((ANALYSIS, SEARCHING, EVENTS), "")
        for store in self._stores.values():
            found |= store.environment
        return found

    @property
    def nodes(self) -> dict[str, Node]:
        """Those of the servers that the demo has started itself, and may kill, by their labels."""
        found = {_label(name): place.node for name, place in self._places.items()}
        return {label: node for label, node in found.items() if node}

    @property
    def told(self) -> dict[str, str]:
        """Which server each is on, and who put it there."""
        return {name: f"{_label(name)} ({place.origin})" for name, place in self._places.items()}

    @property
    def repeated(self) -> int:
        """How many records came again."""
        return sum(store.repeated for store in self._stores.values())

    @property
    def given_up(self) -> int:
        """How many records the third service could not read."""
        return self.statistics.given_up if self.statistics else 0

    def make(self) -> None:
        """Raises: DemoFailed."""
        for store in self._stores.values():
            store.make()

    def cut(self) -> list[str]:
        """Ends what connections can be ended; returns to which servers."""
        return [_label(name) for name, store in self._stores.items() if store.cut()]

    def read(self) -> Collections:
        """Returns all that is there."""
        found = [store.read() for store in self._stores.values()]
        found += [self.statistics.read()] if self.statistics else []
        return {name: documents for one in found for name, documents in one.items()}

    def drop(self) -> None:
        """Removes what servers would keep that outlive the demo."""
        for name, store in self._stores.items():
            if self._places[name].node is None:
                store.drop()


def _label(name: str) -> str:
    return LABELS[SERVERS[name]]
