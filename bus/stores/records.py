"""Commits ⇄ BSON: both event logs store it, so that they refuse and return the same.

Knows the encoding, no connection.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import bson
from bson import Int64
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.decimal128 import DecimalDecoder
from bson.errors import BSONError

from bus.data.ids import category_of, key_of
from bus.data.payload import Document
from bus.errors import ConcurrencyError, ConfigurationError, IdConflict, InvalidMessage
from bus.stores.event_log import Commit, Outgoing, Recorded, Snapshot

MAX_BYTES = 15 * 1024 * 1024
"""MongoDB's limit is 16 MiB; the rest is room for what an update adds."""

OPTIONS: CodecOptions[Document] = CodecOptions(document_class=dict, tz_aware=True, tzinfo=UTC)


class IntegerDecoder(TypeDecoder):
    """Decodes integers beyond 32 bits as Python's own."""

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        """Returns an int, because a union of `int` and `float` would read an `Int64` as a float."""
        return int(value)


READING = OPTIONS.with_options(type_registry=TypeRegistry([DecimalDecoder(), IntegerDecoder()]))
"""For documents that are handed out: Decimals for `Decimal128`, and Python's own integers."""


def commit_document(commit: Commit) -> Document:
    """Returns the commit as the log stores it, pending; empty fields are left out."""
    document: Document = {
        "_id": commit.id,
        "stream": commit.stream,
        "category": commit.category,
        "first": commit.first,
        "events": [_event_document(event) for event in commit.events],
        "time": commit.time,
        "correlation_id": commit.correlation_id,
        "causation_id": commit.causation_id,
        "message": commit.message,
        "pending": True,
    }
    if commit.headers:
        document["headers"] = dict(commit.headers)
    if commit.outgoing:
        document["outgoing"] = [command._asdict() for command in commit.outgoing]
    if commit.result is not None:
        document["result"] = commit.result
    if commit.digest:
        document["digest"] = commit.digest
    return document


def followed_document(commit: Commit, arrived: datetime) -> Document:
    """Returns another service's event as the followed log stores it: it is never published."""
    document = {**commit_document(commit), "arrived": arrived}
    del document["pending"]
    return document


def _event_document(event: Recorded) -> Document:
    document: Document = {"name": event.name, "schema": event.schema, "data": event.data}
    return {**document, "id": event.id} if event.id else document


def commit_from(document: Mapping[str, Any]) -> Commit:
    """Returns the commit that a document of the log holds."""
    # By position and from lists: by name and from generators it takes half as long again, for each
    # event of a rebuild.
    return Commit(
        document["_id"],
        document["stream"],
        document["category"],
        document["first"],
        tuple(
            [
                Recorded(e["name"], e["schema"], e["data"], e.get("id", ""))
                for e in document["events"]
            ]
        ),
        document["time"],
        document["correlation_id"],
        document["causation_id"],
        document.get("headers", {}),
        tuple([Outgoing(**command) for command in document.get("outgoing", ())]),
        document.get("result"),
        document.get("message", ""),
        document.get("digest", ""),
    )


def state_document(state: Snapshot) -> Document:
    """Returns the state as it is stored; its fields can be asked for by path."""
    return {
        "_id": state.stream,
        "version": state.version,
        "category": category_of(state.stream),
        "schema": int(state.shape),
        "state": state.state,
    }


def state_from(document: Mapping[str, Any]) -> Snapshot:
    """Returns the state that a document holds."""
    schema = str(document["schema"])
    return Snapshot(document["_id"], document["version"], schema, document["state"])


def states_filter(category: str, fields: Mapping[str, Any], *, shape: str, after: str) -> Document:
    """Returns the filter for `EventLog.states`."""
    found: Document = {"category": category}
    if after:
        found["_id"] = {"$gt": after}
    equal = {f"state.{name}": {"$eq": value} for name, value in fields.items()}
    if shape and equal:
        return {**found, "$or": [equal, {"schema": {"$ne": int(shape)}}]}
    return {**found, **equal}


def encoded(document: Mapping[str, Any]) -> bytes:
    """Returns the document as BSON. Raises: InvalidMessage if it cannot be stored."""
    try:
        data = bson.encode(document, codec_options=OPTIONS)
    except (BSONError, OverflowError, UnicodeError, TypeError, RecursionError) as error:
        raise InvalidMessage(
            f"{document.get('_id')!r} cannot be stored: {unencodable(error)}; keep to JSON "
            f"types and to integers within 64 bits"
        ) from None
    if len(data) > MAX_BYTES:
        raise InvalidMessage(
            f"{document.get('_id')!r} cannot be stored: {len(data)} bytes, more than {MAX_BYTES}; "
            f"record fewer or smaller events, and keep large data outside of them"
        )
    return data


def unencodable(error: Exception) -> str:
    """Returns why a value cannot be encoded, without quoting it."""
    before, quoted, after = str(error).partition("cannot encode object: ")
    return f"{before}{quoted}{after.rpartition(', of type: ')[2]}"


def unkeepable(value: Any) -> str:
    """Returns why a document cannot hold a value; empty if it can."""
    try:
        bson.encode({"": value}, codec_options=OPTIONS)
    except (BSONError, OverflowError, UnicodeError, TypeError, RecursionError) as error:
        return unencodable(error)
    return ""


def decoded(data: bytes, options: CodecOptions[Document] = OPTIONS) -> Document:
    """Returns the document in BSON that `encoded` returned."""
    return bson.decode(data, codec_options=options)


def is_of_command(commit_id: str, command_id: str) -> bool:
    """Returns whether a commit's id is the command's own or one of its `id/2`, `id/3` ..."""
    if commit_id == command_id:
        return True
    start, _, number = commit_id.rpartition("/")
    return start == command_id and number.isdigit()


def differ(commit: Commit, other: Commit) -> bool:
    """Returns whether two commits differ, also in what Python calls equal: 1, 1.0 and true."""
    return commit != other or _exact(commit) != _exact(other)


def _exact(commit: Commit) -> str:
    return json.dumps(commit_document(commit), sort_keys=True, default=str)


def taken_by_another(stored: Commit, own: Commit) -> ConfigurationError:
    """Returns the error for a copy whose id or place in its stream has a different commit."""
    return ConfigurationError(
        f"the commit {own.id} (stream {own.stream}, version {own.first}) cannot be copied: the "
        f"log it goes to holds a different one there, {stored.id} (stream {stored.stream}, version "
        f"{stored.first}); give an empty database, or the one that this log was copied to before"
    )


def check_cause(stored: Commit, own: Commit) -> None:
    """Raises: IdConflict if the commit stored under an id was caused by another message."""
    if stored.causation_id != own.causation_id:
        raise IdConflict(
            f"the id {own.id} of what follows from {own.message} {own.causation_id} was used for "
            f"what followed from {stored.message} {stored.causation_id}; that stands"
        )


class NotOlder(Exception):
    """The state of a stream is not older than the one to store."""


def moved_on(commits: Sequence[Commit]) -> ConcurrencyError:
    """Returns the error for commits whose place in their stream is taken."""
    return ConcurrencyError(
        "; ".join(_taken(commit.message, commit.stream, commit.first) for commit in commits)
    )


def not_older(commits: Sequence[Commit]) -> ConcurrencyError:
    """Returns the error for commits with states one of which is not older in the store."""
    streams = ", ".join(commit.stream for commit in commits if commit.state)
    return ConcurrencyError(
        f"{commits[0].message or 'a write'}: what is stored as the state of {streams} is not older "
        f"than what would take its place, although the log does not reach it; `bus aggregates "
        f"check` compares states with the log"
    )


def _taken(message: str, stream: str, version: int) -> str:
    if version == 1:
        return (
            f"{message or 'a write'}: the stream {stream} exists already, so nothing can be added "
            f"under its id; add only where repository.find({key_of(stream)!r}) gives None"
        )
    return (
        f"{message or 'a write'}: version {version} of the stream {stream} was written meanwhile, "
        f"by somebody else; execute it again, which reads the stream anew"
    )
