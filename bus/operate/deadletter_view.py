"""How people see what was given up: dead letters and parked streams in one shape. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from bus.data.payload import Document
from bus.read.projection import queue_of
from bus.stores.control import Parked

Kind = Literal["message", "stream"]


class DeadLetter(NamedTuple):
    """A message that was given up, or (kind "stream") a stream that a projection parked.

    `group` is the fingerprint of its failure, `frames` are where it was raised, innermost last, and
    `attempts` those of the last time. A stream stops at its `version`, and `message` names that
    event. `seen` counts how often a message was given up. `body` is what arrived; for a stream,
    only `DeadLetters.show` fills it.
    """

    id: str
    kind: Kind
    group: str
    queue: str
    handler: str
    message: str
    error: str
    reason: str
    frames: tuple[str, ...]
    attempts: int
    first_seen: datetime
    last_seen: datetime
    message_id: str = ""
    correlation_id: str = ""
    stream: str = ""
    version: int = 0
    headers: Mapping[str, str | int] = {}
    body: bytes = b""
    next_try: datetime | None = None
    seen: int = 1


class DeadLetterGroup(NamedTuple):
    """Dead letters that failed alike; `reason` is that of the latest one."""

    group: str
    kind: Kind
    count: int  # type: ignore[assignment]
    queue: str
    handler: str
    message: str
    error: str
    reason: str
    first_seen: datetime
    last_seen: datetime


def letter_of(row: Document) -> DeadLetter:
    """Returns a dead letter that is stored."""
    headers = row["headers"]
    stream, version = headers.get("stream", ""), headers.get("version", 0)
    return DeadLetter(
        id=row["_id"],
        kind="message",
        group=row["fingerprint"],
        queue=row["queue"],
        handler=row["handler"],
        message=row["message"],
        error=row["error"],
        reason=row["reason"],
        frames=tuple(row["frames"]),
        attempts=row["attempts"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        message_id=row["message_id"],
        correlation_id=row["correlation_id"],
        stream=str(stream),
        version=version if isinstance(version, int) else 0,
        headers=headers,
        body=row["body"],
        seen=row["seen"],
    )


def stream_of(service: str, projection: str, parked: Parked) -> DeadLetter:
    """Returns a stream that a projection parked."""
    queue = f"{service}.{queue_of(projection)}"
    return DeadLetter(
        id=f"{projection}/{parked.stream}",
        kind="stream",
        group=parked.fingerprint,
        queue=queue,
        handler=queue,
        message=parked.message,
        error=parked.error,
        reason=parked.reason,
        frames=parked.frames,
        attempts=parked.tries,
        first_seen=parked.first_seen or parked.next_try,
        last_seen=parked.last_seen or parked.next_try,
        stream=parked.stream,
        version=parked.version,
        next_try=parked.next_try,
    )


def group_of(row: Document) -> DeadLetterGroup:
    """Returns a group of dead letters that the store found."""
    return DeadLetterGroup(
        group=row["fingerprint"],
        kind="message",
        **{field: row[field] for field in DeadLetterGroup._fields if field in row},
    )


def groups_of(streams: Sequence[DeadLetter]) -> list[DeadLetterGroup]:
    """Returns the groups that parked streams form."""
    members: dict[str, list[DeadLetter]] = {}
    for stream in streams:
        members.setdefault(stream.group, []).append(stream)
    return [_united(alike) for alike in members.values()]


def _united(alike: Sequence[DeadLetter]) -> DeadLetterGroup:
    latest = max(alike, key=lambda letter: letter.last_seen)
    return DeadLetterGroup(
        group=latest.group,
        kind=latest.kind,
        count=len(alike),
        queue=latest.queue,
        handler=latest.handler,
        message=latest.message,
        error=latest.error,
        reason=latest.reason,
        first_seen=min(letter.first_seen for letter in alike),
        last_seen=latest.last_seen,
    )
