"""The few AMQP frames of the hot path as bytes: publishing, deliveries and settling.

All others (opening, declaring, consuming) are left to the library.
"""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast

from pamqp import decode

from bus.transports.base import DEATH_QUEUE, DEATH_REASON, Frame

METHOD, HEADER, BODY = 1, 2, 3
RETURN, DELIVER, ACK, NACK = (60, 50), (60, 60), (60, 80), (60, 120)
CHANNEL_CLOSE = (20, 40)
BLOCKED, UNBLOCKED = (10, 60), (10, 61)
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
END = b"\xce"

# The queue that answers come from without being one, and what it hands to those who answer.
REPLIES = "amq.rabbitmq.reply-to"
# The time in milliseconds (the property holds seconds); the name is RabbitMQ's own for it.
MILLISECONDS = "timestamp_in_ms"
# What brokers add: their versions differ in it, and a frame arrives as it was published.
_ADDED = {"x-delivery-count", "x-acquired-count"} | {
    f"x-{which}-death-{what}"
    for which in ("first", "last")
    for what in ("queue", "reason", "exchange")
}

_FRAME = struct.Struct(">BHI")
_PUBLISH = struct.Struct(">BHIHHH")
_CONTENT = struct.Struct(">BHIHHQH")
_SETTLE = struct.Struct(">BHIHHQBB")
_LENGTH = struct.Struct(">I")
_INTEGER = struct.Struct(">I")
_LONG = struct.Struct(">q")
_TAG = struct.Struct(">Q")
_METHOD = struct.Struct(">HH")

_CONTENT_TYPE, _HEADERS, _MODE, _CORRELATION, _REPLY_TO = 1 << 15, 1 << 13, 1 << 12, 1 << 10, 1 << 9
_MILLISECONDS = -1  # no property: out of the headers
_MESSAGE_ID, _TIMESTAMP, _TYPE, _APP_ID = 1 << 7, 1 << 6, 1 << 5, 1 << 3
_FLAGS = (
    _CONTENT_TYPE | _HEADERS | _MODE | _CORRELATION | _MESSAGE_ID | _TIMESTAMP | _TYPE | _APP_ID
)
# Every property in the order of the wire: short string, table, octet or timestamp.
_LAYOUT = tuple(zip((1 << bit for bit in range(15, 1, -1)), "sstoosssstssss", strict=True))
_LAYOUT = tuple((flag, "T" if flag == _TIMESTAMP else kind) for flag, kind in _LAYOUT)

_OCTETS = [bytes((octet,)) for octet in range(256)]
_NUMBERS = {
    ord(kind): struct.Struct(layout)
    for kind, layout in {"b": ">b", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q"}.items()
}
EPOCH = datetime.fromtimestamp(0, UTC)


class Incoming(NamedTuple):
    """What a delivery's method frame says, before its content."""

    tag: int
    redelivered: bool
    exchange: str
    topic: str


def method(data: bytes, start: int) -> tuple[int, int]:
    class_id, method_id = _METHOD.unpack_from(data, start)
    return class_id, method_id


def short(text: str) -> bytes:
    raw = text.encode()
    return _OCTETS[len(raw)] + raw


@lru_cache(4096)
def _text_key(name: str) -> bytes:
    """How a header with a text begins; names repeat."""
    return short(name) + b"S"


@lru_cache(4096)
def _integer_key(name: str) -> bytes:
    return short(name) + b"I"


_MILLISECONDS_KEY = short(MILLISECONDS) + b"l"


def publish(
    frame: Frame,
    message_id: str,
    *,
    channel: int,
    exchange: bytes,
    app_id: bytes,
    mandatory: bool,
    limit: int,
) -> bytes:
    """The frames that publish one message; `exchange` and `app_id` are short strings already."""
    topic = short(frame.topic)
    properties = _properties(frame, message_id, app_id)
    flags = _FLAGS | _REPLY_TO if frame.reply_to else _FLAGS
    body = frame.body
    parts = [
        _PUBLISH.pack(METHOD, channel, 7 + len(exchange) + len(topic), 60, 40, 0),
        exchange,
        topic,
        b"\x01\xce" if mandatory else b"\x00\xce",
        _CONTENT.pack(HEADER, channel, 14 + len(properties), 60, 0, len(body), flags),
        properties,
        END,
    ]
    for start in range(0, len(body), limit):
        piece = body[start : start + limit]
        parts += (_FRAME.pack(BODY, channel, len(piece)), piece, END)
    return b"".join(parts)


def _properties(frame: Frame, message_id: str, app_id: bytes) -> bytes:
    milliseconds = round(frame.time.timestamp() * 1000)
    return b"".join(
        (
            b"\x10application/json",
            _table(frame.headers, milliseconds),
            b"\x02",
            short(frame.correlation_id),
            short(frame.reply_to) if frame.reply_to else b"",
            short(message_id),
            _TAG.pack(milliseconds // 1000),
            short(frame.name),
            app_id,
        )
    )


def _table(headers: Mapping[str, str | int], milliseconds: int) -> bytes:
    parts = [_MILLISECONDS_KEY, _LONG.pack(milliseconds)]
    for key, value in headers.items():
        if isinstance(value, str):
            raw = value.encode()
            parts += (_text_key(key), _LENGTH.pack(len(raw)), raw)
        else:
            parts += (_integer_key(key), _INTEGER.pack(value & 0xFFFFFFFF))
    table = b"".join(parts)
    return _LENGTH.pack(len(table)) + table


def settle(kind: tuple[int, int], channel: int, tag: int, bits: int) -> bytes:
    """An acknowledgement (bit 0: multiple) or a nack (bit 0: multiple, bit 1: requeue)."""
    return _SETTLE.pack(METHOD, channel, 13, *kind, tag, bits, 0xCE)


def reject(channel: int, tag: int) -> bytes:
    """Gives one delivery back to its queue."""
    return _SETTLE.pack(METHOD, channel, 13, 60, 90, tag, 1, 0xCE)


def confirmation(data: bytes, start: int) -> tuple[int, bool]:
    """The tag of an acknowledgement or nack, and whether it speaks for all before it."""
    return _TAG.unpack_from(data, start + 4)[0], bool(data[start + 12] & 1)


def deliver(data: bytes, start: int) -> Incoming:
    at = start + 5 + data[start + 4]  # past the consumer's tag
    tag = _TAG.unpack_from(data, at)[0]
    exchange, at_topic = _short(data, at + 9)
    topic, _ = _short(data, at_topic)
    return Incoming(tag, bool(data[at + 8]), exchange, topic)


def returned_topic(data: bytes, start: int) -> str:
    """The topic of a message that comes back, as the method frame says before its content."""
    at = start + 7 + data[start + 6]  # past the reply's code and text
    at += 1 + data[at]
    return _short(data, at)[0]


def body_size(data: bytes, start: int) -> int:
    size: int = _TAG.unpack_from(data, start + 4)[0]
    return size


def content(data: bytes, start: int, incoming: Incoming, body: bytes) -> Frame:
    """The frame that a content header describes."""
    properties = _read_properties(data, start)
    headers = properties.headers
    address = incoming.exchange.rpartition(".")[2] if incoming.exchange else ""
    if address != "dead":  # it was merely delayed
        headers.pop(DEATH_QUEUE, None)
        headers.pop(DEATH_REASON, None)
    milliseconds = properties.milliseconds
    if not isinstance(milliseconds, int):
        milliseconds = properties.timestamp * 1000
    sent_as = properties.message_id
    identity, _, attempt = sent_as.rpartition("#")
    return Frame(
        address,
        incoming.topic,
        identity or sent_as,
        properties.type,
        body,
        _time(milliseconds),
        properties.correlation_id,
        headers,
        _reply_to(properties.reply_to, attempt) if properties.reply_to else "",
    )


def answering(reply: Frame) -> Frame:
    """A reply as it travels: to the channel that asked, saying which request it answers."""
    place, _, ticket = reply.topic.rpartition("#")
    return reply._replace(topic=place, correlation_id=ticket)


def _reply_to(place: str, attempt: str) -> str:
    """Where to reply, and to which attempt, which a message published anew (delayed) keeps.

    Only to channels that wait: a foreign publisher might name any queue.
    """
    if not place.startswith(f"{REPLIES}."):
        return ""
    return place if "#" in place else f"{place}#{attempt}"


def message_id(data: bytes, start: int) -> str:
    """The message id in a content header."""
    return _read_properties(data, start).message_id


def _time(milliseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a foreign publisher's
        return EPOCH


class _Properties(NamedTuple):
    """Those properties of a message that we read."""

    headers: dict[str, str | int]
    milliseconds: str | int | None
    correlation_id: str
    reply_to: str
    message_id: str
    timestamp: int
    type: str


def _read_properties(data: bytes, start: int) -> _Properties:
    flags = data[start + 12] << 8 | data[start + 13]
    return (_read_own if flags == _FLAGS else _read_any)(data, start + 14, flags)


def _read_own(data: bytes, at: int, flags: int) -> _Properties:
    """Properties as `publish` writes them, in a straight line: half the time of `_read_any`."""
    headers, milliseconds, at = _read_table(data, at + 1 + data[at])
    end = at + 2 + data[at + 1]
    correlation_id = data[at + 2 : end].decode("utf-8", "replace")
    at = end + 1 + data[end]
    message_id = data[end + 1 : at].decode("utf-8", "replace")
    (timestamp,) = _TAG.unpack_from(data, at)
    kind = str(data[at + 9 : at + 9 + data[at + 8]], "utf-8", "replace")
    return _Properties(headers, milliseconds, correlation_id, "", message_id, timestamp, kind)


def _read_any(data: bytes, at: int, flags: int) -> _Properties:
    values: dict[int, Any] = {}
    for flag, kind in _LAYOUT:
        if not flags & flag:
            continue
        if kind == "s":
            values[flag], at = _short(data, at)
        elif kind == "t":
            values[flag], values[_MILLISECONDS], at = _read_table(data, at)
        elif kind == "T":
            values[flag], at = _TAG.unpack_from(data, at)[0], at + 8
        else:
            values[flag], at = data[at], at + 1
    return _Properties(
        values.get(_HEADERS, {}),
        values.get(_MILLISECONDS),
        values.get(_CORRELATION, ""),
        values.get(_REPLY_TO, ""),
        values.get(_MESSAGE_ID, ""),
        values.get(_TIMESTAMP, 0),
        values.get(_TYPE, ""),
    )


def _short(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode("utf-8", "replace"), end


@lru_cache(4096)
def _name(raw: bytes) -> str | None:
    """A header's name; None for what brokers add."""
    name = str(raw, "utf-8", "replace")
    return None if name in _ADDED else name


def _read_table(data: bytes, at: int) -> tuple[dict[str, str | int], str | int | None, int]:
    """A table's strings and integers, and apart from them the time in milliseconds; what else the
    broker may add is left out."""
    start, end = at, at + 4 + _LENGTH.unpack_from(data, at)[0]
    at += 4
    values: dict[str | None, str | int] = {}
    milliseconds: str | int | None = None
    if data.startswith(_MILLISECONDS_KEY, at):  # not put in and taken out: five stay a small dict
        (milliseconds,) = _LONG.unpack_from(data, at + len(_MILLISECONDS_KEY))
        at += len(_MILLISECONDS_KEY) + 8
    while at < end:
        stop = at + 1 + data[at]
        key = _name(data[at + 1 : stop])
        kind = data[stop]
        if kind == 83:  # S
            at = stop + 5 + _LENGTH.unpack_from(data, stop + 1)[0]
            values[key] = data[stop + 5 : at].decode("utf-8", "replace")
        elif number := _NUMBERS.get(kind):
            values[key], at = number.unpack_from(data, stop + 1)[0], stop + 1 + number.size
        else:
            values = _rare_table(data[start:end])
            break
    values.pop(None, None)
    milliseconds = values.pop(MILLISECONDS, milliseconds)
    return cast(dict[str, str | int], values), milliseconds, end


def _rare_table(data: bytes) -> dict[str | None, str | int]:
    try:
        _, table = decode.field_table(data)
    except (ValueError, struct.error):
        return {}
    values: dict[str | None, str | int] = {
        key: item for key, item in table.items() if type(item) is str or type(item) is int
    }
    for added in _ADDED & values.keys():
        del values[added]
    deaths = table.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):  # the latest is first
        values[DEATH_QUEUE] = str(deaths[0].get("queue"))
        values[DEATH_REASON] = str(deaths[0].get("reason"))
    return values
