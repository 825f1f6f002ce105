"""Stored events as their classes. Pure."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from bus.errors import InvalidMessage, MessageError, NewerMessage
from bus.messages import AnyMessage, Envelope, Event, read_data
from bus.signing import ATTEMPT as ATTEMPT
from bus.signing import DEAD_LETTER as DEAD_LETTER
from bus.signing import RETURNED as RETURNED
from bus.signing import WAITED as WAITED
from bus.stores.event_log import Commit, Recorded
from bus.stores.sinks.sent import EveryEvent, whole

Registry = Mapping[str, type[AnyMessage]]


class Unread(Event):
    """Stands for an event that the reader has no class for: it only counts as a version."""

    name: str


@lru_cache(maxsize=1000)
def unread(name: str) -> Unread:
    """Returns what stands for the events of that name."""
    return Unread.model_construct(name=name[:100])


def read_recorded(event: Recorded, registry: Registry[Event]) -> Event:
    """Returns a stored event as its class; `Unread` if its name is not in the registry, `Whole` if
    the registry is of every event.

    Raises: InvalidMessage, NewerMessage.
    """
    kind = registry.get(event.name)
    if kind is None:
        return whole(event) if isinstance(registry, EveryEvent) else unread(event.name)
    return read_data(kind, event.data, event.schema)


def unread_at(stream: str, version: int, error: MessageError) -> MessageError:
    """Returns the error for a stored event that its class cannot read, because of `error`."""
    remedy = (
        "; the event stays as it is: have its class read it, by a default for what is missing, or "
        "by a raised schema= and an upcast (docs/evolution.md)"
    )
    if isinstance(error, NewerMessage):
        remedy = ""  # NewerMessage says it itself
    return type(error)(f"{stream}, version {version}: the stored event {error}{remedy}")


def envelopes_of(commit: Commit, registry: Registry[Event], after: int = 0) -> Iterator[Envelope]:
    """Yields the commit's events after version `after`, as if they had arrived.

    Raises: InvalidMessage, NewerMessage, if one cannot be read.
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
