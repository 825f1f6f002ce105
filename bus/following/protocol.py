"""Asking for history: what travels between a service and one that follows it.

Questions go to the owner's queue of requests. The answers come to the follower's queue of history:
events, as they would be published, and words on how far they reach.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus.common import clock
from bus.common.fingerprint import reason_of
from bus.data import payload
from bus.errors import InvalidMessage
from bus.signing import Signing
from bus.transports.base import MAX_BODY, Frame, Transport
from bus.transports.topology import history_queue, requests_queue

STREAMS_AT_ONCE = 100
HEADS_AT_ONCE = 500

MARK = "\x01"
"""Divides a place from a token; no stream's id holds it, nor is any between a place and it."""

Versions = Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=HEADS_AT_ONCE)]


class Word(BaseModel):
    """What is asked or told of a category; travels under the name of its class.

    The `token` of a question comes back with its answers: only who was asked knows it. Releases
    that do not know of it tell none.
    """

    model_config = ConfigDict(frozen=True)

    category: str
    token: str = Field("", max_length=200)

    @classmethod
    def title(cls) -> str:
        """The name on the wire. No event is named so: there is a dot in it."""
        return f"history.{cls.__name__.lower()}"


class Question(Word):
    """`service` is who asks."""

    service: str = Field(pattern=r"^[a-z_][a-z0-9_]{0,49}$")


class AskPart(Question):
    """The events of the streams beyond `after`: some of them, up to the end of a stream."""

    after: str = Field("", max_length=1000)


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

    def without_mark(self) -> "TellPart":
        """What is told by an owner that was asked with the token in `after`."""
        after, _, token = self.after.partition(MARK)
        place, _, _ = self.place.partition(MARK)
        start = f"{self.category}-"
        changes = {
            "after": "" if after == start else after,
            "place": "" if place == start else place,
            "token": self.token or token,
        }
        return self.model_copy(update=changes)


class TellHeads(Word):
    """Streams, with versions that they have. With `until`, these are all, up to that time."""

    versions: Versions
    until: datetime | None = None


AnyWord = TypeVar("AnyWord", bound=Word)


def word_in(frame: Frame, kinds: Mapping[str, type[AnyWord]]) -> AnyWord:
    """The word that a frame carries. Raises: InvalidMessage."""
    kind = kinds.get(frame.name)
    if kind is None:
        raise InvalidMessage(f"{frame.name[:100]!r} is no question that services ask each other")
    if len(frame.body) > MAX_BODY:
        raise InvalidMessage(f"{frame.name}: a body of {len(frame.body):,} bytes is over the limit")
    try:
        return kind.model_validate(payload.parsed(frame.body, frame.name))
    except ValidationError as error:
        raise InvalidMessage(f"{frame.name}: {reason_of(error)}") from None


def kinds_of(*kinds: type[AnyWord]) -> dict[str, type[AnyWord]]:
    """Kinds of words by their names on the wire."""
    return {kind.title(): kind for kind in kinds}


def answer_frame(service: str, word: Word) -> Frame:
    """A word to whoever asked."""
    return _frame(history_queue(service).name, word)


def _frame(queue: str, word: Word) -> Frame:
    id = clock.new_id()
    body = word.model_dump_json().encode()
    return Frame(
        address="queue",
        topic=queue,
        id=id,
        name=word.title(),
        body=body,
        time=clock.now(),
        correlation_id=id,
    )


class Asking:
    """Asks the owners of categories.

    Raises: Unroutable (the owner has no such queue yet), TransportUnavailable.
    """

    def __init__(
        self, transport: Transport, service: str, owners: Mapping[str, str], signing: Signing
    ) -> None:
        self._transport = transport
        self._service = service
        self._owners = owners
        self._signing = signing

    async def part(self, category: str, after: str, *, marked: bool = False) -> None:
        """For the next part of a category's history. With `marked` on the token stands in `after`
        too, which owners of any release tell as it was asked."""
        token = self._token(category)
        if marked:  # an empty place would become one before other categories
            after = f"{after or f'{category}-'}{MARK}{token}"
        await self._ask(AskPart(category=category, token=token, service=self._service, after=after))

    async def streams(self, category: str, streams: Mapping[str, int]) -> None:
        """For what these streams hold beyond versions."""
        wanted = list(streams.items())
        for start in range(0, len(wanted), STREAMS_AT_ONCE):
            some = dict(wanted[start : start + STREAMS_AT_ONCE])
            await self._ask(AskStreams(category=category, service=self._service, streams=some))

    async def heads(self, category: str, since: datetime) -> None:
        """For the newest versions of what was written since."""
        token = self._token(category)
        await self._ask(
            AskHeads(category=category, token=token, service=self._service, since=since)
        )

    async def is_answer(self, word: Word) -> bool:
        """Whether it brings the token back that this service asks the owner with.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        return await self._signing.gave(word.token, self._what(word.category))

    def _token(self, category: str) -> str:
        return self._signing.token(self._what(category))

    def _what(self, category: str) -> str:
        return f"{self._owners[category]}/{category}"

    async def _ask(self, question: Question) -> None:
        frame = _frame(requests_queue(self._owners[question.category]).name, question)
        for failure in (await self._transport.publish([frame], must_route=True)).values():
            raise failure
