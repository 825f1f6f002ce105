"""Envelope ⇄ Frame, and what a commit publishes. Pure; no I/O.

A receiver reads only names that it registered. Size is checked before anything is parsed.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, cast

from pydantic_core import to_json

from bus.codec.data import data_of
from bus.codec.reading import Registry, unread
from bus.common import clock
from bus.common.exceptions import own
from bus.data import payload
from bus.data.ids import category_of
from bus.data.limits import (
    check_chosen_id,
    check_correlation_id,
    check_headers,
    check_id,
    plain_text,
)
from bus.errors import InvalidMessage, NewerMessage, UnknownMessage
from bus.messages import (
    MOST_REASONS,
    AnyMessage,
    Command,
    Envelope,
    Event,
    Message,
    check_kind,
    invalid,
    read_data,
)
from bus.signing import (
    ATTEMPT,
    DEAD_LETTER,
    FED,
    FIXED_HEADERS,
    RETURNED,
    SIGNATURE,
    UNSIGNED,
    WAITED,
    Sign,
)
from bus.stores.event_log import Commit, Outgoing, Recorded
from bus.stores.sinks.sent import EveryEvent, whole
from bus.transports.base import MAX_BODY, Frame, refusal, refused_headers
from bus.transports.topology import COMMAND_TOPIC, event_topic

RESERVED_HEADERS = frozenset(
    {*FIXED_HEADERS, SIGNATURE, FED, ATTEMPT, DEAD_LETTER, RETURNED, WAITED}
)


def new_envelope(
    message: Message,
    id: str | None = None,
    correlation_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Envelope:
    """Returns an envelope for a new message. Raises: InvalidMessage for bad ids or headers."""
    if headers:
        check_headers(headers, RESERVED_HEADERS)
        # A copy: the caller may change theirs while the message is handled.
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
    fields = (message, id, time, correlation_id or id, None, "", 0, headers or {}, "")
    return tuple.__new__(Envelope, fields)  # one call less than `Envelope(...)`: the hottest path


def frames_of(commit: Commit) -> list[Frame]:
    """Returns one frame for each event of a commit, to be signed by `sign_events` when they leave;
    then one for each command that it sends.

    Raises: InvalidMessage if one could not travel (a body or headers over the limit, say).
    """
    frames = event_frames(commit)
    for frame in frames:
        # Counts in the check below. Without it, a frame at the limit would be stored, and refused
        # only once it is signed.
        _headers_of(frame)[SIGNATURE] = UNSIGNED
    if commit.outgoing:
        frames += command_frames(commit)
    for frame in frames:
        problem = refusal(frame)
        if problem is not None:
            raise problem
    return frames


def sign_events(frames: Iterable[Frame], sign: Sign) -> None:
    """Signs events, many in one go: between commands, with a cold cache, each takes three times as
    long."""
    for frame in frames:
        _headers_of(frame)[SIGNATURE] = sign(frame)


_headers_of = cast(
    Callable[[Frame], dict[str, str | int]], itemgetter(Frame._fields.index("headers"))
)


def event_frames(commit: Commit, sign: Sign | None = None) -> list[Frame]:
    """Returns one frame for each event of a commit; signed, with `sign`."""
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
    """Returns one frame for each command that a commit sends."""
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
    """Returns a command as it travels to its service's queue. Raises: InvalidMessage."""
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
    """Returns the envelope that a frame carries.

    With `written_here`, a process of this service is known to have written it: its JSON has passed
    `payload.check`, and its headers `refusal`.
    Raises: UnknownMessage (a name that is not in the registry), NewerMessage (a shape of a later
    release), InvalidMessage (with at most `reasons` reasons).
    """
    kind = registry.get(frame.name)
    if kind is None:
        raise UnknownMessage(f"no message named {frame.name[:100]!r} is registered here")
    if issubclass(kind, Command):
        check_id(frame.id)
    return envelope_of(frame, _parse(frame, kind, reasons, written_here), written_here=written_here)


def envelope_of(frame: Frame, message: Message, *, written_here: bool = False) -> Envelope:
    """Returns a frame's envelope around a message. Raises: InvalidMessage for bad headers."""
    headers = frame.headers
    stream, version = headers.get("stream", ""), headers.get("version", 0)
    if not written_here and (problem := refused_headers(frame)):
        raise problem
    is_typed = isinstance(stream, str) and isinstance(version, int)
    is_event = isinstance(message, Event)
    if not is_typed or (is_event and not ("-" in str(stream) and int(version) > 0)):
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
    """Checks that an event came by a topic of its own category.

    Otherwise a service could publish events of a category that is another service's.
    Raises: InvalidMessage.
    """
    category = category_of(str(frame.headers.get("stream", "")))
    if frame.address == "events" and frame.topic.partition(".")[0] != category:
        raise InvalidMessage(
            f"{frame.name[:100]}: its stream is of {category[:50]!r}, and it came by the topic "
            f"{frame.topic[:100]!r}"
        )


def unregistered(frame: Frame, registry: Registry[Any]) -> Event:
    """Returns what stands for an event whose name is not in the registry. Raises: InvalidMessage if
    it is to be passed on, and cannot be."""
    is_whole = isinstance(registry, EveryEvent)
    return whole(_recorded_in(frame)) if is_whole else unread(frame.name)


def followed_commit(frame: Frame) -> Commit:
    """Returns another service's event as the followed log keeps it, whether or not it is read here.

    Raises: InvalidMessage if it cannot be kept.
    """
    envelope = envelope_of(frame, unread(frame.name))
    return Commit(
        f"{envelope.stream}@{envelope.version}",
        envelope.stream,
        category_of(envelope.stream),
        envelope.version,
        (_recorded_in(frame),),
        envelope.time,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.headers,
    )


def _recorded_in(frame: Frame) -> Recorded:
    if len(frame.body) > MAX_BODY:
        raise InvalidMessage(f"{frame.name}: a body of {len(frame.body):,} bytes is over the limit")
    data, schema = payload.parsed(frame.body, frame.name[:100]), frame.headers.get("schema", 1)
    if not isinstance(data, dict) or not isinstance(schema, int):
        raise InvalidMessage(
            f"{frame.name[:100]}: its data is not an object, or its header 'schema' not a whole "
            f"number"
        )
    return Recorded(frame.name, schema, data, frame.id)
