"""Limits of ids and headers, each in the unit that counts, and the errors that name them.

What travels in AMQP's short strings (ids, names) is counted in bytes of UTF-8; what is only in
headers and documents, in characters.
"""

from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from bus.common.signatures import with_article
from bus.data import payload
from bus.errors import InvalidMessage

MAX_WORD = 200
"""Bytes of an id, a name, a topic; AMQP's short strings end at 255."""
MAX_KEY = 128
"""Bytes of a header's name."""
MAX_HEADERS = 32 * 1024
MAX_COUNT = 100
OWN_BYTES = 2 * 1024
"""How many bytes the bus's own headers take at most, also on a delay or as a dead letter."""
OWN_COUNT = 10

MOST_COMMAND_ID = 150
"""Bytes; the rest of MAX_WORD is for the numbers of what derives from it."""
MOST_AGGREGATE_ID = 200
"""Characters."""
DERIVED = "="
"""How ids begin that derive from a message and its handler; callers may not choose them."""


def size_of(text: str) -> int:
    """Returns the bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def plain_text(text: str) -> str:
    """Returns a plain str from what may be an instance of a subclass, as a StrEnum member is."""
    return text if type(text) is str else str.__str__(text)


def not_text(what: str, value: object, absent: str = "give the text that it is to be") -> str:
    """Returns what to say if something other than text was given; `absent` says what to do if it
    was None."""
    if value is None:
        return f"{what} must be text, and this one is None: {absent}"
    kind = type(value).__name__
    return f"{what} must be text, and this one is of type {kind}: {to_text(value)}"


def to_text(value: object) -> str:
    """Returns, in words, how to turn a value into text that identifies it."""
    match value:
        case Enum():
            return "give str(...) of its value"
        case int() | float() | Decimal() | UUID() | date() | PurePath():
            return "give str(...) of it"
        case bytes() | bytearray():
            return "give value.decode(), or value.hex()"
    return "give what tells it from others, as text"


def check_chosen_id(id: str) -> None:
    """Raises: InvalidMessage for what a caller may not choose as a command's id."""
    check_id(id)
    if id.startswith(DERIVED):
        raise InvalidMessage(
            f"the id {id!r} begins with {DERIVED!r}, as the bus's own do, which derive from "
            f"messages and handlers; begin yours with another character"
        )


def check_id(id: str) -> None:
    """Raises: InvalidMessage for what cannot be a command's id."""
    if (
        not isinstance(id, str)
        or not (0 < len(id) <= MOST_COMMAND_ID and id.isprintable())
        or "/" in id
        or not (id.isascii() or size_of(id) <= MOST_COMMAND_ID)
    ):
        raise InvalidMessage(_refused_id(id))


def _refused_id(id: object) -> str:
    what = "the id of a message"
    if not isinstance(id, str):
        return not_text(what, id)
    if not id.isprintable():
        return f"{what} must be printable, and {id[:50]!r} has {_unprintable(id)} in it"
    if "/" in id:
        return f"{what} must not have a slash, as {id[:50]!r} has: put another character there"
    return _of_bytes(what, id, MOST_COMMAND_ID)


def _of_bytes(what: str, text: str, most: int) -> str:
    size = size_of(text)
    counted = (
        f"{size} bytes" if size == len(text) else f"{size} bytes in UTF-8 ({len(text)} characters)"
    )
    remedy = "; shorten it" if size > most else ""
    return f"{what} must have 1 to {most} bytes, and this one has {counted}{remedy}"


def _unprintable(text: str) -> str:
    return repr(next(character for character in text if not character.isprintable()))


def check_aggregate_id(id: str, of: str) -> None:
    """Raises: InvalidMessage for what cannot be an aggregate's id, `of` being its class."""
    if not (isinstance(id, str) and 0 < len(id) <= MOST_AGGREGATE_ID and id.isprintable()):
        raise InvalidMessage(_refused_stream_id(id, f"the id of {with_article(of)}"))


def check_stream_id(id: str, what: str) -> None:
    """Raises: InvalidMessage for what cannot be the id in a stream's name."""
    if not (0 < len(id) <= MOST_AGGREGATE_ID and id.isprintable()):
        raise InvalidMessage(_refused_stream_id(id, what))


def _refused_stream_id(id: object, what: str) -> str:
    if not isinstance(id, str):
        return not_text(what, id)
    if not id.isprintable():
        return f"{what} must be printable, and {id[:50]!r} has {_unprintable(id)} in it"
    return f"{what} must have 1 to {MOST_AGGREGATE_ID} characters, and this one has {len(id)}"


def check_correlation_id(id: str) -> None:
    """Raises: InvalidMessage for what cannot travel as one."""
    what = "a correlation id"
    if not isinstance(id, str):
        raise InvalidMessage(not_text(what, id))
    try:
        if size_of(id) > MAX_WORD:
            raise InvalidMessage(_of_bytes(what, id, MAX_WORD))
    except UnicodeEncodeError:
        raise InvalidMessage(
            f"{what} holds a lone surrogate, which UTF-8 cannot encode; {payload.DECODED}"
        ) from None


def check_headers(headers: Mapping[str, Any], own: Collection[str]) -> None:
    """Raises: InvalidMessage for headers that a message cannot have; `own` are the bus's names.

    Leaves room for those that the bus adds, when the message is sent and when it is tried again.
    """
    if type(headers) is not dict and not isinstance(headers, Mapping):
        raise InvalidMessage(
            f"headers= is of type {type(headers).__name__}; give a dict of text to text, as in "
            f'headers={{"tenant": "a"}}'
        )
    for key, value in headers.items():
        if problem := _refused_header(key, value, own):
            raise InvalidMessage(problem)
    payload.check({**headers}, "headers")
    if len(headers) > MAX_COUNT - OWN_COUNT:
        raise InvalidMessage(
            f"a message may have {MAX_COUNT - OWN_COUNT} headers, and this one has {len(headers)}: "
            f"put what belongs to the message into its fields"
        )
    size = sum(size_of(key) + size_of(value) + 8 for key, value in headers.items())
    if size > MAX_HEADERS - OWN_BYTES:
        raise InvalidMessage(
            f"a message's headers may have {MAX_HEADERS - OWN_BYTES} bytes together, and these "
            f"have {size}: put what belongs to the message into its fields"
        )


def _refused_header(key: object, value: object, own: Collection[str]) -> str | None:
    if not isinstance(key, str):
        return not_text("a header's name", key)
    if key in own:
        return f"header {key!r} is one of the bus's own ({', '.join(sorted(own))}): rename yours"
    if not 0 < len(key) <= MAX_KEY or len(key.encode(errors="replace")) > MAX_KEY:
        shown = repr(key[:50]) + ("..." if len(key) > 50 else "")
        return _of_bytes(f"the name of header {shown}", key, MAX_KEY)
    if not isinstance(value, str):
        return not_text(f"the value of header {key!r}", value, "leave the header out")
    return None
