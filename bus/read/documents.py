"""Documents: typed access to one projection's read collection."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from pydantic import BaseModel

from bus.common.figures import Seconds, seconds
from bus.data.limits import not_text, plain_text
from bus.data.payload import Document
from bus.errors import ProjectionError
from bus.messages import Envelope, Receipt
from bus.read.views import by_key, check_times, check_written, key_or, read_as, row_as, shows_key
from bus.stores import collections
from bus.stores.asking import check_mapping, check_part
from bus.stores.documents.updates import asked
from bus.stores.grouping import COUNT, checked_field, grouping_of

View = TypeVar("View", bound=BaseModel)
Row = TypeVar("Row", bound=BaseModel)
Totals = Mapping[str, Mapping[str, Any]]
COUNTED: Totals = {"count": COUNT}
ALL: Mapping[str, Any] = {}
SCRIPTS = frozenset({"$where", "$function", "$accumulator"})

Waiting = Callable[[Mapping[str, int], float], Awaitable[None]]


class Documents(Generic[View]):
    """The documents of the projection that declares `view=View`.

    Filters, updates and sort orders are MongoDB's, with Python's values; docs/projections.md says
    in which form documents keep each. Documents are returned as Views. A View's field `id`, if it
    has one, is the document's key, which MongoDB calls `_id`: filters and orders take both names.
    """

    def __init__(
        self,
        raw: collections.StoredDocuments,
        view: type[View],
        *,
        waiting: Waiting | None = None,
        writing: collections.WritableDocuments | None = None,
    ) -> None:
        self._raw = raw
        self._view = view
        self._waiting = waiting
        self._writing = writing

    async def get(self, key: str) -> View | None:
        """Returns the document with this key, or None. Raises: ProjectionError."""
        found = await self._raw.find_one({"_id": _checked(key)})
        return None if found is None else self._read(found)

    async def find(
        self,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, Any]] = (),
        skip: int = 0,
        limit: int = 0,
    ) -> list[View]:
        """Returns the documents that a MongoDB filter selects; a `limit` of 0 means all.

        Check the type of a user's value (`str`, say) before you put it into a filter: a dict may
        be an operator. Raises: ProjectionError.
        """
        form = self._asked(filter)
        try:
            check_part(sort, skip, limit)
            order = self._order(sort)
            found = await self._raw.find(form, sort=order, skip=skip, limit=limit)
        except ProjectionError as error:
            raise self._named(error) from error.__cause__
        return [self._read(document) for document in found]

    async def count(self, filter: Mapping[str, Any]) -> int:
        """Counts the documents that a MongoDB filter selects. Raises: ProjectionError."""
        form = self._asked(filter)
        try:
            return await self._raw.count(form)
        except ProjectionError as error:
            raise self._named(error) from error.__cause__

    async def distinct(self, field: str, filter: Mapping[str, Any] = ALL) -> list[Any]:
        """Returns the sorted distinct values of a field in documents that a MongoDB filter selects.

        A path leads through objects and arrays (`"owner.city"`); an array's values count
        separately. Raises: ProjectionError.
        """
        path = checked_field(key_or(self._view, field))
        return await self._raw.distinct(path, self._asked(filter))

    @overload
    async def group(
        self,
        by: str | Sequence[str],
        filter: Mapping[str, Any] = ...,
        *,
        totals: Totals = ...,
        sort: Sequence[tuple[str, Any]] = ...,
        limit: int = ...,
    ) -> list[dict[str, Any]]: ...

    @overload
    async def group(
        self,
        by: str | Sequence[str],
        filter: Mapping[str, Any] = ...,
        *,
        row: type[Row],
        totals: Totals = ...,
        sort: Sequence[tuple[str, Any]] = ...,
        limit: int = ...,
    ) -> list[Row]: ...

    async def group(
        self,
        by: str | Sequence[str],
        filter: Mapping[str, Any] = ALL,
        *,
        row: type[Row] | None = None,
        totals: Totals = COUNTED,
        sort: Sequence[tuple[str, Any]] = (),
        limit: int = 0,
    ) -> list[dict[str, Any]] | list[Row]:
        """Groups the documents that a MongoDB filter selects by fields, and returns their totals.

            await documents.group("city", totals={"n": {"$sum": 1}, "best": {"$max": "$pay"}})

        Each row holds the fields (None if missing) and the totals: `{"$sum": 1}` counts documents;
        `$sum`, `$avg`, `$min` and `$max` take a field's values. Rows are dicts, or instances of
        `row`. They are sorted by `sort` (names in the row), then by the fields; a `limit` of 0
        means all. Without fields (`by=()`) there is one group, or none if no document is selected.
        Raises: ProjectionError.
        """
        grouping = grouping_of(by, totals, sort, limit)
        if shows_key(self._view) and "id" in grouping.fields:
            raise ProjectionError(
                f"id is the key of each document ({self._view.__name__}), which is stored as _id; "
                f"say _id, if it is to be in groups"
            )
        rows = await self._raw.group(grouping, self._asked(filter))
        return rows if row is None else [row_as(row, group) for group in rows]

    async def including(self, origin: Envelope | Receipt, timeout: Seconds = 5.0) -> None:
        """Waits until the documents include an event, or the events that a receipt refers to.

        `timeout` is in seconds, or a timedelta; with 0 it asks once. Raises: NotCaughtUp.
        """
        limit = seconds(timeout, "Documents.including(): timeout", zero=True)
        if self._waiting is not None:
            versions = (
                origin.versions if isinstance(origin, Receipt) else {origin.stream: origin.version}
            )
            await self._waiting(versions, limit)

    async def update(self, key: str, update: Mapping[str, Any]) -> None:
        """Applies a MongoDB update to one document; creates it if there is none.

        Only in a projection's own handler. Raises: ProjectionError elsewhere.
        """
        key = _checked(key)
        writable = self._writable()
        check_written(self._view, key, update)
        await writable.update(key, update)

    async def delete(self, key: str) -> None:
        """Deletes one document, as `update` only in a projection's own handler."""
        await self._writable().delete(_checked(key))

    def _named(self, error: ProjectionError) -> ProjectionError:
        return ProjectionError(f"Documents[{self._view.__name__}]: {error}")

    def _writable(self) -> collections.WritableDocuments:
        if self._writing is None:
            raise ProjectionError(
                f"documents of {self._view.__name__} can be changed by their projection's handlers "
                f"only; record an event and let the projection fold it"
            )
        return self._writing

    def _asked(self, filter: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the filter in the form of documents: plain values, which can all be checked."""
        check_mapping(filter)
        check_times(self._view, filter)
        form = asked(by_key(self._view, filter), versioned=False)
        refuse_scripts(form)
        return form

    def _order(self, sort: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(key_or(self._view, path), direction) for path, direction in sort]

    def _read(self, document: Document) -> View:
        return read_as(self._view, document)


def _checked(key: str) -> str:
    if not isinstance(key, str):
        raise ProjectionError(not_text("a document's key", key))
    return plain_text(key)


def refuse_scripts(filter: Any) -> None:
    """Raises: ProjectionError if a filter would run JavaScript in the database."""
    if isinstance(filter, Mapping):
        for name in SCRIPTS & filter.keys():
            raise ProjectionError(
                f"a filter runs no script in the database, and {name} would; write it with other "
                f"operators ($expr, say)"
            )
        filter = list(filter.values())
    if isinstance(filter, list | tuple):
        for part in filter:
            refuse_scripts(part)
