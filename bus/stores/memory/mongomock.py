"""Has mongomock do what collections in memory do not do by themselves."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, total_ordering
from numbers import Number
from threading import Lock
from typing import Any

from bson.decimal128 import Decimal128

from bus.data.payload import Document
from bus.stores.documents.applying import plus
from bus.stores.documents.values import read
from bus.stores.records import decoded, encoded


class NotInstalled(Exception):
    """mongomock is not installed."""


class Mock:
    """Selects, sorts and updates; its methods may raise anything. Raises: NotInstalled."""

    def __init__(self) -> None:
        try:
            from mongomock import MongoClient
            from mongomock.filtering import _Filterer, resolve_sort_key
        except ImportError:
            raise NotInstalled from None
        self._filters: Any = _Filterer()  # type: ignore[no-untyped-call]
        self._find_lists(self._filters._operator_map)
        self._sort_key: Any = resolve_sort_key
        self._database: Any = MongoClient(tz_aware=True)["memory"]
        self._lock = Lock()

    def _find_lists(self, operators: dict[str, Callable[[Any, Any], bool]]) -> None:
        """Makes `$in` match a list as a whole too, as MongoDB does."""
        within = operators["$in"]

        def is_in(value: Any, asked: Any) -> bool:
            return within(value, asked) or (type(value) is list and value in asked)

        operators.update({"$in": is_in, "$nin": lambda value, asked: not is_in(value, asked)})

    def selected(self, documents: Iterable[Document], filter: Mapping[str, Any]) -> list[Document]:
        """Returns the documents that a filter selects."""
        return [document for document in documents if self._filters.apply(filter, document)]

    def in_order(
        self, documents: Iterable[Document], sort: Sequence[tuple[str, Any]]
    ) -> list[Document]:
        """Returns the documents sorted."""
        found = list(documents)
        for field, direction in reversed(sort):
            found.sort(key=partial(self._sort_key, field), reverse=direction < 0)
        return found

    def updated(self, document: Document | None, key: str, update: Document) -> Document:
        """Returns the document after an update; a new one if there is none."""
        scratch = self._database["updating"]
        with self._lock:
            scratch.delete_many({})
            if document is not None:
                scratch.insert_one(_comparable(document))
            scratch.update_one({"_id": key}, _comparable(update), upsert=True)
            return decoded(encoded(scratch.find_one({"_id": key})))


@total_ordering
class _Number(Decimal128):
    """A decimal that mongomock takes for a number."""

    def __lt__(self, other: Any) -> bool:
        return bool(self.to_decimal() < read(other))

    def __eq__(self, other: object) -> bool:
        return bool(self.to_decimal() == read(other))

    def __add__(self, other: Any) -> "_Number":
        return _Number(plus(self.to_decimal(), read(other)))

    __radd__ = __add__


Number.register(_Number)


def _comparable(value: Any) -> Any:
    """Returns the value with numbers that mongomock can compare: it cannot compare `Decimal128`."""
    if isinstance(value, Decimal128):
        return _Number(value.to_decimal())
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in value.items()}
    return list(map(_comparable, value)) if isinstance(value, list) else value
