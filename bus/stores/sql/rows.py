"""Commits ⇄ rows. What MongoDB and memory refuse to store is refused alike."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic_core import to_json

from bus.data.payload import Document
from bus.errors import InvalidMessage
from bus.stores.event_log import Commit, Outgoing, Recorded
from bus.stores.records import commit_document, encoded
from bus.stores.sql.schema import commits

FIELDS: Sequence[sa.Column[Any]] = [
    commits.c[name]
    for name in (
        "number", "id", "stream", "category", "first", "last", "time", "correlation_id",
        "causation_id", "message", "digest", "headers", "events", "outgoing", "result",
    )
]  # fmt: skip
"""What is read of a commit, in the order that `commit_of` takes."""


def _dumps(data: Any) -> str:
    """Returns data as JSON; pydantic's own encoder takes a fifth of the time of Python's.

    Raises: ValueError for what no JSON can hold.
    """
    text = to_json(data, inf_nan_mode="constants").decode()
    if "NaN" in text or "Infinity" in text:
        json.dumps(data, allow_nan=False)  # it may be a text
    return text


class Row(NamedTuple):
    """A commit as it is sent; `size` is about its bytes."""

    id: str
    stream: str
    category: str
    first: int
    last: int
    time: datetime
    correlation_id: str
    causation_id: str | None
    message: str
    digest: str
    headers: str | None
    events: str
    outgoing: str | None
    result: str | None


COLUMNS = Row._fields


class Sent:
    """A commit that is ready to be sent; its length is in bytes."""

    __slots__ = ("_size", "row")

    def __init__(self, row: Row, size: int) -> None:
        self.row = row
        self._size = size

    def __len__(self) -> int:
        return self._size


def sent(commit: Commit) -> Sent:
    """Returns what is sent of a commit. Raises: InvalidMessage if it cannot be stored."""
    size = len(encoded(commit_document(commit)))
    moment = commit.time
    try:
        row = Row(
            commit.id,
            commit.stream,
            commit.category,
            commit.first,
            commit.last,
            moment.replace(microsecond=moment.microsecond // 1000 * 1000),
            commit.correlation_id,
            commit.causation_id,
            commit.message,
            commit.digest,
            _dumps(dict(commit.headers)) if commit.headers else None,
            _dumps([_event(event) for event in commit.events]),
            _dumps([command._asdict() for command in commit.outgoing]) if commit.outgoing else None,
            None if commit.result is None else _dumps(commit.result),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_json(commit.id, error) from None
    return Sent(row, size)


def checked(document: Document, data: Any) -> None:
    """Raises: InvalidMessage if a document cannot be stored, or JSON in it is none."""
    encoded(document)
    try:
        _dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_json(document["_id"], error) from None


def _no_json(id: str, error: Exception) -> InvalidMessage:
    return InvalidMessage(
        f"{id!r} cannot be stored: it holds what JSON has not ({type(error).__name__}); keep to "
        f"JSON types"
    )


def _event(event: Recorded) -> Document:
    document: Document = {"name": event.name, "schema": event.schema, "data": event.data}
    return {**document, "id": event.id} if event.id else document


def commit_of(row: Any) -> Commit:
    """Returns the commit in a row of FIELDS."""
    (_, id, stream, category, first, _, moment, correlation_id, causation_id, message, digest,
     headers, events, outgoing, result) = row  # fmt: skip
    return Commit(
        id,
        stream,
        category,
        first,
        tuple([Recorded(e["name"], e["schema"], e["data"], e.get("id", "")) for e in events]),
        moment,
        correlation_id,
        causation_id,
        headers or {},
        tuple([Outgoing(**command) for command in outgoing or ()]),
        result,
        message,
        digest,
    )
