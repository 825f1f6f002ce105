"""The few AMQP frames of the hot path as bytes: publishing, deliveries and settling.

All others (opening, declaring, consuming) are left to the library.
"""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast

from pamqp import decode

from bus.transports.base import DEATH_QUEUE, DEATH_REASON, EPOCH, Frame

METHOD, HEADER, BODY = 1, 2, 3
RETURN, DELIVER, ACK, NACK = (60, 50), (60, 60), (60, 80), (60, 120)
CHANNEL_CLOSE = (20, 40)
BLOCKED, UNBLOCKED = (10, 60), (10, 61)
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
END = b"\xce"

# RabbitMQ's pseudo-queue for answers; the reply addresses that it makes begin with its name.
REPLIES = "amq.rabbitmq.reply-to"
# The header with the time in milliseconds (the property holds seconds); RabbitMQ's own name for it.
MILLISECONDS = "timestamp_in_ms"
# Headers that brokers add. Left in, a frame would not arrive as it was published, and would differ
# between versions of RabbitMQ.
_ADDED = {"x-delivery-count", "x-acquired-count"} | {
    f"x-{which}-death-{field}"
    for which in ("first", "last")
    for field in ("queue", "reason", "exchange")
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
_MILLISECONDS = -1  # not a property's flag: read from the headers
_MESSAGE_ID, _TIMESTAMP, _TYPE, _APP_ID = 1 << 7, 1 << 6, 1 << 5, 1 << 3
_FLAGS = (
    _CONTENT_TYPE | _HEADERS | _MODE | _CORRELATION | _MESSAGE_ID | _TIMESTAMP | _TYPE | _APP_ID
)
# Every property, in wire order: short string, table, octet or timestamp.
_LAYOUT = tuple(zip((1 << bit for bit in range(15, 1, -1)), "sstoosssstssss", strict=True))
_LAYOUT = tuple((flag, "T" if flag == _TIMESTAMP else kind) for flag, kind in _LAYOUT)

_OCTETS = [bytes((octet,)) for octet in range(256)]
_NUMBERS = {
    ord(kind): struct.Struct(layout)
    for kind, layout in {"b": ">b", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q"}.items()
}


class Incoming(NamedTuple):
    """The contents of a delivery's method frame, which precedes the message itself."""

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
    """Returns how a header with a text begins; cached, because names repeat."""
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
    """Returns the frames that publish one message.

    `exchange` and `app_id` are encoded as short strings already. A body over `limit` bytes goes in
    several body frames: RabbitMQ closes the connection on a frame over the size agreed upon.
    """
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
    """Returns an acknowledgement (bit 0: multiple) or nack (bit 0: multiple, bit 1: requeue)."""
    return _SETTLE.pack(METHOD, channel, 13, *kind, tag, bits, 0xCE)


def reject(channel: int, tag: int) -> bytes:
    """Returns the frame that gives one delivery back to its queue."""
    return _SETTLE.pack(METHOD, channel, 13, 60, 90, tag, 1, 0xCE)


def confirmation(data: bytes, start: int) -> tuple[int, bool]:
    """Returns the tag of an acknowledgement or nack, and whether it covers all earlier tags."""
    return _TAG.unpack_from(data, start + 4)[0], bool(data[start + 12] & 1)


def deliver(data: bytes, start: int) -> Incoming:
    at = start + 5 + data[start + 4]  # after the consumer's tag
    tag = _TAG.unpack_from(data, at)[0]
    exchange, at_topic = _short(data, at + 9)
    topic, _ = _short(data, at_topic)
    return Incoming(tag, bool(data[at + 8]), exchange, topic)


def returned_topic(data: bytes, start: int) -> str:
    """Returns the topic of a returned message, from the method frame."""
    at = start + 7 + data[start + 6]  # after the reply's code and text
    at += 1 + data[at]
    return _short(data, at)[0]


def body_size(data: bytes, start: int) -> int:
    size: int = _TAG.unpack_from(data, start + 4)[0]
    return size


def content(data: bytes, start: int, incoming: Incoming, body: bytes) -> Frame:
    """Returns the frame that a content header describes."""
    properties = _read_properties(data, start)
    headers = properties.headers
    address = incoming.exchange.rpartition(".")[2] if incoming.exchange else ""
    if address != "dead":  # it was only delayed, which RabbitMQ records as a death too
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
    """Returns a reply as it travels: to the channel that asked, with the request's ticket."""
    place, _, ticket = reply.topic.rpartition("#")
    return reply._replace(topic=place, correlation_id=ticket)


def _reply_to(place: str, attempt: str) -> str:
    """Returns where to reply and to which attempt; a delayed message keeps the attempt it had.

    Only waiting channels get replies: a foreign publisher might name any queue.
    """
    if not place.startswith(f"{REPLIES}."):
        return ""
    return place if "#" in place else f"{place}#{attempt}"


def message_id(data: bytes, start: int) -> str:
    """Returns the message id in a content header."""
    return _read_properties(data, start).message_id


def _time(milliseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # from a foreign publisher
        return EPOCH


class _Properties(NamedTuple):
    """The properties of a message that the bus reads."""

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
    """Reads properties as `publish` writes them: straight-line code, in half `_read_any`'s time.

    Relies on the flags: with any other set of properties it would read from the wrong offsets.
    """
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
    """Returns a header's name; None if brokers add it."""
    name = str(raw, "utf-8", "replace")
    return None if name in _ADDED else name


def _read_table(data: bytes, at: int) -> tuple[dict[str, str | int], str | int | None, int]:
    """Returns a table's strings and integers, the time in milliseconds, and where the table ends;
    what brokers add is left out."""
    start, end = at, at + 4 + _LENGTH.unpack_from(data, at)[0]
    at += 4
    values: dict[str | None, str | int] = {}
    milliseconds: str | int | None = None
    # Read before the loop: put into `values` and taken out again, it would be a sixth entry, and
    # make the dictionary grow for each message.
    if data.startswith(_MILLISECONDS_KEY, at):
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
            # Other types have no fixed size here, so the rest cannot be skipped over.
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
