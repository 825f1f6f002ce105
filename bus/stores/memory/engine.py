"""Filters, sorts and updates for collections in memory."""

import builtins
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

from bus.data.payload import Document
from bus.errors import ConfigurationError, InvalidMessage, ProjectionError
from bus.stores.documents.applying import Beyond, apply
from bus.stores.documents.matching import in_order, matcher, refusal
from bus.stores.documents.paths import Refused
from bus.stores.documents.updates import Step, Update, by_whom, refused_update, unkept
from bus.stores.documents.values import read
from bus.stores.memory.mongomock import Mock, NotInstalled
from bus.stores.records import decoded, encoded

Table = dict[str, Document]
"""Documents by `_id`."""

BEYOND = (
    "is more than collections in memory do by themselves; install doubledecker[memory], which "
    "brings mongomock for such ones"
)

UNDONE = (
    "is more than collections in memory and mongomock do; test it on a MongoDB, as by "
    "--bus-services=real"
)
GIVEN = "see that what is there and what is given is what the operator takes"


class Engine:
    """Filters, sorts, and updates documents: simple things exactly as MongoDB does, the rest with
    mongomock, if it is installed."""

    def find(
        self, table: Table, filter: Mapping[str, Any], sort: Sequence[tuple[str, Any]]
    ) -> list[Document]:
        """Returns copies of the documents that a filter selects.

        Raises: ProjectionError, ConfigurationError (it takes mongomock).
        """
        try:
            wanted = read(filter)
            candidates = list(map(read, _candidates(table, wanted)))
            return deepcopy(self._in_order(self._selected(candidates, wanted), sort))
        except NotInstalled:
            raise ConfigurationError(f"this filter or sort order {BEYOND}") from None
        except Exception as error:  # mongomock raises anything
            raise ProjectionError(refusal(filter, f"in memory: {type(error).__name__}")) from error

    def _selected(self, documents: list[Document], filter: Mapping[str, Any]) -> list[Document]:
        try:
            return list(builtins.filter(matcher(filter), documents))
        except Beyond:
            return self._mock.selected(documents, filter)

    def _in_order(
        self, documents: list[Document], sort: Sequence[tuple[str, Any]]
    ) -> list[Document]:
        try:
            return in_order(documents, sort)
        except Beyond:
            return self._mock.in_order(documents, sort)

    def update(self, table: Table, key: str, update: Document) -> None:
        """Updates a document; creates it if there is none. Raises: ProjectionError."""
        try:
            table[key] = self._updated(table.get(key), key, update)
        except NotInstalled:
            raise ProjectionError(f"the update of {key!r} {BEYOND}") from None
        except Refused as refused:
            raise ProjectionError(f"the update of {key!r}, {refused}; {GIVEN}") from None
        except NotImplementedError:
            raise ProjectionError(f"the update of {key!r} {UNDONE}") from None
        except Exception as error:  # mongomock raises anything
            why = f"it cannot be applied in memory ({type(error).__name__})"
            raise refused_update(key, update, why) from error

    def _updated(self, document: Document | None, key: str, update: Document) -> Document:
        try:
            return {"_id": key, **apply(deepcopy(document), update)}
        except Beyond:
            return self._mock.updated(document, key, update)

    @cached_property
    def _mock(self) -> Mock:
        return Mock()


def kept(filter: Document) -> Document:
    """Returns the filter in the form of stored documents. Raises: ProjectionError."""
    try:
        form: Document = decoded(encoded({"_id": "the filter", "filter": filter}))["filter"]
    except InvalidMessage as error:
        raise ProjectionError(str(error)) from None
    return form


def kept_step(step: Step) -> Step:
    """Returns the step, its update in the form of stored documents. Raises: ProjectionError."""
    if not isinstance(step, Update):
        return step
    try:
        form = decoded(encoded({"_id": step.key, "update": step.update}))["update"]
    except InvalidMessage:
        raise by_whom(step.by, unkept(step.key, step.update)) from None
    return step._replace(update=form)


def _candidates(table: Table, filter: Mapping[str, Any]) -> Iterable[Document]:
    key = filter.get("_id")
    if isinstance(key, str):
        return [table[key]] if key in table else []
    return table.values()
