"""Asking for history: what travels between a service and one that follows it.

Questions go to the owner's queue of requests. The answers come to the follower's queue of history:
events, as they would be published, and words on how far they reach.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus import ambient, payload
from bus.errors import InvalidMessage
from bus.fingerprint import reason_of
from bus.transports.base import MAX_BODY, Frame, Transport
from bus.transports.topology import history_queue, requests_queue

STREAMS_AT_ONCE = 100
HEADS_AT_ONCE = 500

Versions = Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=HEADS_AT_ONCE)]


class Word(BaseModel):
    """What is asked or told of a category; travels under the name of its class."""

    model_config = ConfigDict(frozen=True)

    category: str

    @classmethod
    def title(cls) -> str:
        """The name on the wire. No event is named so: there is a dot in it."""
        return f"history.{cls.__name__.lower()}"


class Question(Word):
    """`service` is who asks."""

    service: str = Field(pattern=r"^[a-z_][a-z0-9_]{0,49}$")


class AskPart(Question):
    """The events of the streams beyond `after`: some of them, up to the end of a stream."""

    after: str = ""


class AskStreams(Question):
    """The events of these streams, each beyond a version."""

    streams: Versions


class AskHeads(Question):
    """The newest versions of the streams that were written since."""

    since: datetime


class TellPart(Word):
    """All `events` of the streams beyond `after` up to and with `place` came before this; at the
    end there are no more. They were read at `time`."""

    after: str
    place: str
    events: int
    is_end: bool
    time: datetime


class TellHeads(Word):
    """Streams, with versions that they have. With `until`, these are all, up to that time."""

    versions: Versions
    until: datetime | None = None


AnyWord = TypeVar("AnyWord", bound=Word)


def word_in(frame: Frame, kinds: Mapping[str, type[AnyWord]]) -> AnyWord:
    """The word that a frame carries. Raises: InvalidMessage."""
    kind = kinds.get(frame.name)
    if kind is None:
        raise InvalidMessage(f"{frame.name[:100]!r} is nothing that is asked or told here")
    if len(frame.body) > MAX_BODY:
        raise InvalidMessage(f"{frame.name}: a body of {len(frame.body):,} bytes is over the limit")
    try:
        return kind.model_validate(payload.parsed(frame.body))
    except ValidationError as error:
        raise InvalidMessage(f"{frame.name}: {reason_of(error)}") from None


def kinds_of(*kinds: type[AnyWord]) -> dict[str, type[AnyWord]]:
    """Kinds of words by their names on the wire."""
    return {kind.title(): kind for kind in kinds}


def answer_frame(service: str, word: Word) -> Frame:
    """A word to whoever asked."""
    return _frame(history_queue(service).name, word)


def _frame(queue: str, word: Word) -> Frame:
    id = ambient.new_id()
    body = word.model_dump_json().encode()
    return Frame("queue", queue, id, word.title(), body, ambient.now(), id)


class Asking:
    """Asks the owners of categories.

    Raises: Unroutable (the owner has no such queue yet), TransportUnavailable.
    """

    def __init__(self, transport: Transport, service: str, owners: Mapping[str, str]) -> None:
        self._transport = transport
        self._service = service
        self._owners = owners

    async def part(self, category: str, after: str) -> None:
        """For the next part of a category's history."""
        await self._ask(AskPart(category=category, service=self._service, after=after))

    async def streams(self, category: str, streams: Mapping[str, int]) -> None:
        """For what these streams hold beyond versions."""
        wanted = list(streams.items())
        for start in range(0, len(wanted), STREAMS_AT_ONCE):
            some = dict(wanted[start : start + STREAMS_AT_ONCE])
            await self._ask(AskStreams(category=category, service=self._service, streams=some))

    async def heads(self, category: str, since: datetime) -> None:
        """For the newest versions of what was written since."""
        await self._ask(AskHeads(category=category, service=self._service, since=since))

    async def _ask(self, question: Question) -> None:
        frame = _frame(requests_queue(self._owners[question.category]).name, question)
        for failure in (await self._transport.publish([frame], must_route=True)).values():
            raise failure
