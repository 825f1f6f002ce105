"""Events as records of a topic, and back. The form is described in docs/kafka.md, for readers that
are not ours: what changes here changes it for them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from pydantic_core import to_json

from bus.data.ids import category_of
from bus.errors import InvalidMessage
from bus.stores.sinks.sent import SentEvent
from bus.transports.base import MAX_BODY, Frame
from bus.transports.topology import event_topic

OWN = "header."
"""How the names of an event's own headers begin."""
MOST_DIGITS = 9
"""Of numbers in headers: what other headers and messages take, which a dead letter goes into."""
Headers = list[tuple[str, bytes]]


class Record(NamedTuple):
    """An event, ready to be sent. `time` is in milliseconds since 1970."""

    key: bytes
    value: bytes
    time: int
    headers: Headers

    @property
    def size(self) -> int:
        """The most bytes that it takes in a topic, as the only one of its batch."""
        size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(
            self.key, self.value, self.headers
        )
        return size


class Fetched(Protocol):
    """A record as aiokafka's consumer returns it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def partition_of(stream: str, partitions: int) -> int:
    """Returns the partition of a stream, as Kafka's own clients choose it by the key."""
    hashed: int = murmur2(stream.encode())
    return (hashed & 0x7FFFFFFF) % partitions


def record_of(event: SentEvent, service: str) -> Record:
    fixed = {
        "id": event.id,
        "name": event.name,
        "schema": str(event.schema),
        "stream": event.stream,
        "version": str(event.version),
        "time": event.time.astimezone(UTC).isoformat(timespec="milliseconds"),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "service": service,
    }
    headers = [(name, value.encode()) for name, value in fixed.items()]
    headers += [(f"{OWN}{name}", value.encode()) for name, value in event.headers.items()]
    time = round(event.time.timestamp() * 1000)
    return Record(event.stream.encode(), to_json(event.data), time, headers)


def place_of(record: Fetched) -> str:
    """Returns where a record is, for people and as the id of one that has none."""
    return f"{record.topic}/{record.partition}@{record.offset}"


def frame_of(record: Fetched, owner: str) -> Frame:
    """Returns the event that a record holds, as it would come from its owner by a broker.

    Raises: InvalidMessage, with the record's place.
    """
    try:
        return _frame_of(record, owner)
    except (KeyError, ValueError) as error:
        raise InvalidMessage(f"{place_of(record)}: {_why(error)}") from None


def _frame_of(record: Fetched, owner: str) -> Frame:
    headers = _texts(record)
    if headers["service"] != owner:
        raise ValueError(f"it was sent by {headers['service']!r:.60}, and not by {owner!r}")
    if record.value is None or len(record.value) > MAX_BODY:
        raise ValueError("it has no value, or one that is too large")
    stream, name = headers["stream"], headers["name"]
    return Frame(
        address="events",
        topic=event_topic(category_of(stream), name, stream),
        id=headers["id"],
        name=name,
        body=record.value,
        time=_time_in(headers["time"]),
        correlation_id=headers.get("correlation_id", "") or headers["id"],
        headers={
            **{k.removeprefix(OWN): v for k, v in headers.items() if k.startswith(OWN)},
            "stream": stream,
            "version": _whole(headers, "version"),
            "schema": _whole(headers, "schema"),
            "causation_id": headers.get("causation_id", ""),
        },
    )


def unreadable(record: Fetched) -> Frame:
    """Returns a frame that keeps what can be kept of a record, for a dead letter."""
    headers: dict[str, Any] = {}
    for name, value in record.headers or ():
        headers[name.removeprefix(OWN)] = (value or b"").decode(errors="replace")
    for name in ("version", "schema"):
        with suppress(KeyError, ValueError):
            headers[name] = _whole(headers, name)
    try:
        time = _time_in(headers.get("time", ""))
    except ValueError:
        time = datetime.fromtimestamp(0, UTC)
    own = {k: v for k, v in headers.items() if k not in ("id", "name", "time", "correlation_id")}
    return Frame(
        address="events",
        topic="",
        id=str(headers.get("id") or place_of(record)),
        name=str(headers.get("name") or "unnamed"),
        body=record.value or b"",
        time=time,
        correlation_id=str(headers.get("correlation_id") or place_of(record)),
        headers=own,
    )


def _whole(headers: Mapping[str, str], name: str) -> int:
    """Reads a whole number. Raises: KeyError, ValueError."""
    text = headers[name]
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise ValueError(f"its header {name!r} is no whole number of {MOST_DIGITS} digits at most")
    return int(text)


def _texts(record: Fetched) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers or ()}


def _time_in(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no header {error.args[0]!r}, as docs/kafka.md describes them"
    return str(error)[:300]
