"""Envelope ⇄ Frame, and what a commit publishes. Pure; no I/O.

A receiver reads only names that it registered. Size is capped before anything is parsed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar, cast

from pydantic_core import to_json

from bus.common import clock
from bus.common.exceptions import own
from bus.common.fingerprint import reason_of
from bus.data import payload
from bus.data.flat import flat_data
from bus.data.limits import (
    check_chosen_id,
    check_correlation_id,
    check_headers,
    check_id,
    plain_text,
)
from bus.data.payload import Document
from bus.data.round_trip import difference
from bus.data.unwritten import unwritten, why_unreadable
from bus.errors import InvalidMessage, MessageError, NewerMessage, UnknownMessage
from bus.messages import (
    MOST_REASONS,
    AnyMessage,
    Command,
    Envelope,
    Event,
    Message,
    category_of,
    check_kind,
    invalid,
    read_data,
)
from bus.signing import ATTEMPT as ATTEMPT
from bus.signing import DEAD_LETTER as DEAD_LETTER
from bus.signing import FIXED_HEADERS, SIGNATURE, UNSIGNED, Sign
from bus.signing import RETURNED as RETURNED
from bus.signing import WAITED as WAITED
from bus.stores.event_log import Commit, Outgoing, Recorded
from bus.transports.base import MAX_BODY, Frame, refusal, refused_headers
from bus.transports.topology import COMMAND_TOPIC, event_topic

AnyEvent = TypeVar("AnyEvent", bound=Event)
Registry = Mapping[str, type[AnyMessage]]

RESERVED_HEADERS = frozenset({*FIXED_HEADERS, SIGNATURE, ATTEMPT, DEAD_LETTER, RETURNED, WAITED})


class Unread(Event):
    """Stands for an event whose name the reader has no class for: it only counts as a version."""

    name: str


@lru_cache(maxsize=1000)
def unread(name: str) -> Unread:
    """What stands for the events of that name."""
    return Unread.model_construct(name=name[:100])


def new_envelope(
    message: Message,
    id: str | None = None,
    correlation_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Envelope:
    """A message that sets out from here. Raises: InvalidMessage for ids and headers that cannot."""
    if headers:
        check_headers(headers, RESERVED_HEADERS)
        # The caller may change his while the message is handled.
        headers = {plain_text(key): plain_text(value) for key, value in headers.items()}
    if correlation_id:
        check_correlation_id(correlation_id)
        correlation_id = plain_text(correlation_id)
    if id is None:
        id, time = clock.new_id_and_time()
    else:
        check_chosen_id(id)
        id = plain_text(id)
        time = clock.now()
    return Envelope(message, id, time, correlation_id or id, None, "", 0, headers or {})


def data_of(message: Message) -> Document:
    """The message's fields as JSON types.

    Raises: InvalidMessage, also where they would be read back as something else.
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
    """The message as its readers will see it. Raises: InvalidMessage where that is another one."""
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
    """Tells a message from another one of its kind: the same for equal content, in any process.

    Fields that nobody set, or that have their default, do not count, so that a release which adds
    one agrees. The schema stands before it: digests of different schemas do not compare.
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
        text = json.dumps(_in_order(data) if _has_sets(type(message)) else data, sort_keys=True)
    except Exception as error:
        raise _unwritable(message, error) from None
    hashed = hashlib.blake2s(text.encode(), digest_size=12)
    return f"{message.wire_schema}:{hashed.hexdigest()}"


@lru_cache(maxsize=1000)
def _has_sets(kind: type[Message]) -> bool:
    """Whether there are sets among its fields, whose order differs from process to process."""
    try:
        return '"uniqueItems": true' in json.dumps(kind.model_json_schema(mode="serialization"))
    except Exception:  # fields that no JSON Schema describes
        return True


def _in_order(data: Any) -> Any:
    """Lists in an order of their own, however deep."""
    if isinstance(data, dict):
        return {key: _in_order(value) for key, value in data.items()}
    if isinstance(data, list):
        return sorted(map(_in_order, data), key=lambda one: json.dumps(one, sort_keys=True))
    return data


def record(event: Event) -> Recorded:
    """The event as it is stored. Raises: InvalidMessage."""
    return Recorded(event.wire_name, event.wire_schema, data_of(event))


def record_and_read(event: AnyEvent) -> tuple[Recorded, AnyEvent]:
    """The event as it is stored, and as it is read from there, which share nothing with what was
    given. Raises: InvalidMessage."""
    data = flat_data(event.__dict__, event.wire_flat)
    if data is not None and len(event.__pydantic_fields_set__) == len(data):
        return Recorded(event.wire_name, event.wire_schema, data), event  # nothing was converted
    data = _written(event)
    read = _read_back(event, data)
    if not event.wire_plain:  # what was read may hold parts of the data
        data = _written(event)
    return Recorded(event.wire_name, event.wire_schema, data), read


def address(command: Command, command_id: str) -> Outgoing:
    return Outgoing(command_id, command.wire_name, command.wire_schema, data_of(command))


def frames_of(commit: Commit) -> list[Frame]:
    """One frame for each event of a commit, to be signed by `sign_events` as they leave; then one
    for each command that it sends.

    Raises: InvalidMessage where one could not travel (a body or headers over the limit, say).
    """
    frames = event_frames(commit)
    for frame in frames:
        _headers_of(frame)[SIGNATURE] = UNSIGNED  # keeps the room that it takes
    if commit.outgoing:
        frames += command_frames(commit)
    for frame in frames:
        problem = refusal(frame)
        if problem is not None:
            raise problem
    return frames


def sign_events(frames: Iterable[Frame], sign: Sign) -> None:
    """Signs events, many in one go: in between commands, with a cold cache, each took three times
    as long."""
    for frame in frames:
        _headers_of(frame)[SIGNATURE] = sign(frame)


_headers_of = cast(
    Callable[[Frame], dict[str, str | int]], itemgetter(Frame._fields.index("headers"))
)


def event_frames(commit: Commit, sign: Sign | None = None) -> list[Frame]:
    """One frame for each event of a commit; signed, with `sign`."""
    frames = [_event_frame(commit, place, event) for place, event in enumerate(commit.events)]
    if sign is not None:
        sign_events(frames, sign)
    return frames


def _event_frame(commit: Commit, place: int, event: Recorded) -> Frame:
    return Frame(
        "events",
        event_topic(commit.category, event.name, commit.stream),
        commit.event_id(place),
        event.name,
        to_json(event.data),
        commit.time,
        commit.correlation_id,
        {
            **commit.headers,
            "stream": commit.stream,
            "version": commit.first + place,
            "schema": event.schema,
            "causation_id": commit.causation_id or commit.id,
        },
    )


def command_frames(commit: Commit) -> list[Frame]:
    """One frame for each command that a commit sends."""
    return [_command_frame(commit, command) for command in commit.outgoing]


def _command_frame(commit: Commit, command: Outgoing) -> Frame:
    return Frame(
        "commands",
        COMMAND_TOPIC,
        command.id,
        command.name,
        to_json(command.data),
        commit.time,
        commit.correlation_id,
        {**commit.headers, "schema": command.schema, "causation_id": commit.id},
    )


def command_frame(envelope: Envelope) -> Frame:
    """A command as it travels to its service's queue. Raises: InvalidMessage."""
    check_kind(type(envelope.message), Command, "send or request")
    return Frame(
        address="commands",
        topic=COMMAND_TOPIC,
        id=envelope.id,
        name=envelope.name,
        body=to_json(data_of(envelope.message)),
        time=envelope.time,
        correlation_id=envelope.correlation_id,
        headers={
            **envelope.headers,
            "schema": envelope.message.wire_schema,
            "causation_id": envelope.causation_id or "",
        },
    )


def read_frame(
    frame: Frame,
    registry: Registry[Any],
    reasons: int = MOST_REASONS,
    *,
    written_here: bool = False,
) -> Envelope:
    """The envelope that a frame carries; an error tells `reasons` of its reasons at most.

    With `written_here`, a process of this service is known to have written it: `payload.check` has
    passed its JSON before, and `refusal` its headers.
    Raises: UnknownMessage (a name that is not in the registry), NewerMessage (a shape of a later
    release), InvalidMessage (with the reason).
    """
    kind = registry.get(frame.name)
    if kind is None:
        raise UnknownMessage(f"no message named {frame.name[:100]!r} is registered here")
    if issubclass(kind, Command):
        check_id(frame.id)
    return envelope_of(frame, _parse(frame, kind, reasons, written_here), written_here=written_here)


def envelope_of(frame: Frame, message: Message, *, written_here: bool = False) -> Envelope:
    """A frame's envelope around a message. Raises: InvalidMessage for headers that cannot be."""
    headers = frame.headers
    stream, version = headers.get("stream", ""), headers.get("version", 0)
    if not written_here and (problem := refused_headers(frame)):
        raise problem
    told = isinstance(stream, str) and isinstance(version, int)
    is_event = isinstance(message, Event)
    if not told or (is_event and not ("-" in str(stream) and int(version) > 0)):
        raise InvalidMessage(
            f"{frame.name[:100]}: an event has the headers 'stream' and 'version' (CATEGORY-ID, "
            f"and 1 or more), and this one has not"
        )
    own = {}
    if not headers.keys() <= RESERVED_HEADERS:
        own = {key: str(headers[key]) for key in headers.keys() - RESERVED_HEADERS}
        payload.check(own, f"{frame.name[:100]}: headers")
    return Envelope(
        message,
        frame.id,
        frame.time,
        frame.correlation_id or frame.id,
        str(headers.get("causation_id") or "") or None,
        str(stream),
        int(version),
        own,
    )


def _parse(frame: Frame, kind: type[AnyMessage], reasons: int, written_here: bool) -> AnyMessage:
    if len(frame.body) > MAX_BODY:
        raise InvalidMessage(f"{frame.name}: a body of {len(frame.body):,} bytes is over the limit")
    schema = frame.headers.get("schema", 1)
    data = None
    plain = schema == kind.wire_schema and kind.wire_plain
    if not (written_here and plain):
        data = payload.parsed(frame.body, frame.name)
    try:
        if plain:
            return kind.model_validate_json(frame.body)
        return read_data(kind, data, int(schema), reasons)
    except (InvalidMessage, NewerMessage):
        raise
    except BaseException as error:
        if not own(error):
            raise
        raise invalid(kind, error, reasons=reasons) from None


def check_topic(frame: Frame) -> None:
    """Nobody tells of a category by the topics of another one, which may be another service's.

    Raises: InvalidMessage.
    """
    category = category_of(str(frame.headers.get("stream", "")))
    if frame.address == "events" and frame.topic.partition(".")[0] != category:
        raise InvalidMessage(
            f"{frame.name[:100]}: its stream is of {category[:50]!r}, and it came by the topic "
            f"{frame.topic[:100]!r}"
        )


def followed_commit(frame: Frame) -> Commit:
    """An event of another service as the followed log keeps it, whether anybody here reads it.

    Raises: InvalidMessage where it cannot be kept.
    """
    envelope = envelope_of(frame, unread(frame.name))
    category, schema = category_of(envelope.stream), frame.headers.get("schema", 1)
    if len(frame.body) > MAX_BODY:
        raise InvalidMessage(f"{frame.name}: a body of {len(frame.body):,} bytes is over the limit")
    data = payload.parsed(frame.body, frame.name[:100])
    if not isinstance(data, dict) or not isinstance(schema, int):
        raise InvalidMessage(
            f"{frame.name[:100]}: its data is no object, or its header 'schema' is no whole number"
        )
    return Commit(
        f"{envelope.stream}@{envelope.version}",
        envelope.stream,
        category,
        envelope.version,
        (Recorded(frame.name, schema, data, envelope.id),),
        envelope.time,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.headers,
    )


def read_recorded(event: Recorded, registry: Registry[Event]) -> Event:
    """A stored event as its class; `Unread` where the name is not in the registry.

    Raises: InvalidMessage, NewerMessage.
    """
    kind = registry.get(event.name)
    return unread(event.name) if kind is None else read_data(kind, event.data, event.schema)


def unread_at(stream: str, version: int, error: MessageError) -> MessageError:
    """What to say of a stored event that its class cannot read, which `error` tells."""
    remedy = (
        "; the event stays as it is: have its class read it, by a default for what is missing, or "
        "by a raised schema= and an upcast (docs/evolution.md)"
    )
    if isinstance(error, NewerMessage):
        remedy = ""  # which it says itself
    return type(error)(f"{stream}, version {version}: the stored event {error}{remedy}")


def envelopes_of(commit: Commit, registry: Registry[Event], after: int = 0) -> Iterator[Envelope]:
    """The commit's events beyond version `after`, as if they had arrived.

    Raises: InvalidMessage, NewerMessage, where one cannot be read.
    """
    for place, event in enumerate(commit.events):
        version = commit.first + place
        if version > after:
            try:
                read = read_recorded(event, registry)
            except (InvalidMessage, NewerMessage) as error:
                raise unread_at(commit.stream, version, error) from None
            yield Envelope(
                read,
                commit.event_id(place),
                commit.time,
                commit.correlation_id,
                commit.causation_id or commit.id,
                commit.stream,
                version,
                commit.headers,
            )
