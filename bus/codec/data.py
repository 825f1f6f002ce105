"""Messages as data: what is stored and sent, and the check that it is read back as it was. Pure."""

import hashlib
import json
from functools import lru_cache
from typing import Any, TypeVar

from bus.common.exceptions import own
from bus.common.fingerprint import reason_of
from bus.data import payload
from bus.data.flat import flat_data
from bus.data.payload import Document
from bus.data.round_trip import difference
from bus.data.unwritten import unwritten, why_unreadable
from bus.errors import InvalidMessage
from bus.messages import (
    AnyMessage,
    Command,
    Event,
    Message,
)
from bus.signing import ATTEMPT as ATTEMPT
from bus.signing import DEAD_LETTER as DEAD_LETTER
from bus.signing import RETURNED as RETURNED
from bus.signing import WAITED as WAITED
from bus.stores.event_log import Outgoing, Recorded

AnyEvent = TypeVar("AnyEvent", bound=Event)


def data_of(message: Message) -> Document:
    """Returns the message's fields as JSON types.

    Raises: InvalidMessage, also if they would be read back as something else.
    """
    flat = flat_data(message.__dict__, message.wire_flat)
    if flat is not None:
        return flat
    data = _written(message)
    _read_back(message, data)
    return data


def _written(message: Message) -> Document:
    try:
        data: Document = message.__pydantic_serializer__.to_python(
            message, mode="json", by_alias=True, round_trip=True, warnings=False
        )
        payload.check(data, message.wire_name)
    except InvalidMessage:
        raise
    except Exception as error:
        raise _unwritable(message, error) from None
    return data


def _unwritable(message: Message, error: Exception) -> InvalidMessage:
    def write(include: Any) -> Any:
        return message.__pydantic_serializer__.to_python(message, mode="json", include=include)

    why = unwritten(message, error, write)
    return InvalidMessage(f"{message.wire_name} cannot be written as JSON: {why}")


def _read_back(message: AnyMessage, data: Document) -> AnyMessage:
    """Returns the message as readers will see it. Raises: InvalidMessage if it is not the same."""
    try:
        read: AnyMessage = message.__pydantic_validator__.validate_python(data, strict=False)
        if read.__dict__ == message.__dict__ and message.wire_plain:
            return read
        different = difference(message, read, exact=message.wire_exact)
    except BaseException as error:
        if not own(error):
            raise
        raise InvalidMessage(
            f"{message.wire_name} could not be read back once it is written: {reason_of(error)}; "
            f"{type(message).__name__}(...) {why_unreadable(message)}"
        ) from None
    if different:
        raise InvalidMessage(f"{message.wire_name}: {different}")
    return read


def digest_of(message: Message) -> str:
    """Returns a digest of a message's content, the same in any process.

    Fields that are unset or have their default do not count, so that a release which adds one
    agrees. The schema is its prefix, because digests of different schemas cannot be compared.
    Raises: InvalidMessage.
    """
    try:
        data = message.__pydantic_serializer__.to_python(
            message,
            mode="json",
            by_alias=True,
            round_trip=True,
            exclude_defaults=True,
            exclude_unset=True,
        )
        text = json.dumps(
            payload.in_order(data) if _has_sets(type(message)) else data, sort_keys=True
        )
    except Exception as error:
        raise _unwritable(message, error) from None
    hashed = hashlib.blake2s(text.encode(), digest_size=12)
    return f"{message.wire_schema}:{hashed.hexdigest()}"


@lru_cache(maxsize=1000)
def _has_sets(kind: type[Message]) -> bool:
    """Returns whether there are sets among its fields: their order differs between processes."""
    try:
        return '"uniqueItems": true' in json.dumps(kind.model_json_schema(mode="serialization"))
    except Exception:  # fields that no JSON Schema describes
        return True


def record(event: Event) -> Recorded:
    """Returns the event as it is stored. Raises: InvalidMessage."""
    return Recorded(event.wire_name, event.wire_schema, data_of(event))


def record_and_read(event: AnyEvent) -> tuple[Recorded, AnyEvent]:
    """Returns the event as it is stored, and as it is read back; neither shares anything with what
    was given. Raises: InvalidMessage."""
    data = flat_data(event.__dict__, event.wire_flat)
    if data is not None and len(event.__pydantic_fields_set__) == len(data):
        return Recorded(event.wire_name, event.wire_schema, data), event  # nothing was converted
    data = _written(event)
    read = _read_back(event, data)
    if not event.wire_plain:  # what was read may hold parts of the data, and change them later
        data = _written(event)
    return Recorded(event.wire_name, event.wire_schema, data), read


def address(command: Command, command_id: str) -> Outgoing:
    return Outgoing(command_id, command.wire_name, command.wire_schema, data_of(command))
