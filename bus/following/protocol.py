"""What travels between a service and one that follows it and asks for its history.

Questions go to the owner's queue of requests. The answers go to the follower's queue of history:
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
"""Separates a place from a token. No stream's id holds it, or sorts between a place and it."""

Versions = Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=HEADS_AT_ONCE)]


class Word(BaseModel):
    """A question or an answer about a category; travels under the name of its class: renaming one
    changes what other services' releases understand.

    The `token` of a question comes back with its answers: only the service that was asked knows it.
    Releases that do not know tokens send none.
    """

    model_config = ConfigDict(frozen=True)

    category: str
    token: str = Field("", max_length=200)

    @classmethod
    def title(cls) -> str:
        """Returns its name on the wire, which no event can have because it holds a dot."""
        return f"history.{cls.__name__.lower()}"


class Question(Word):
    """A word to an owner; `service` asks."""

    service: str = Field(pattern=r"^[a-z_][a-z0-9_]{0,49}$")


class AskPart(Question):
    """Asks for events of the streams beyond `after`: for some, up to the end of a stream."""

    after: str = Field("", max_length=1000)


class AskStreams(Question):
    """Asks for the events of these streams, each beyond a version."""

    streams: Versions


class AskHeads(Question):
    """Asks for the newest versions of the streams that were written since a time."""

    since: datetime


class TellPart(Word):
    """Says that all `events` of the streams beyond `after`, up to and including `place`, came
    before this; if `is_end`, there are no more. They were read at `time`."""

    after: str
    place: str
    events: int
    is_end: bool
    time: datetime

    def without_mark(self) -> "TellPart":
        """Returns it with the token taken out of `after` and `place`: an owner that was asked with
        one in `after` leaves it there."""
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
    """Gives versions of streams. With `until`, no more follow: these are all, up to that time."""

    versions: Versions
    until: datetime | None = None


AnyWord = TypeVar("AnyWord", bound=Word)


def word_in(frame: Frame, kinds: Mapping[str, type[AnyWord]]) -> AnyWord:
    """Returns the word that a frame carries. Raises: InvalidMessage."""
    kind = kinds.get(frame.name)
    if kind is None:
        raise InvalidMessage(f"{frame.name[:100]!r} is not a question that services ask each other")
    if len(frame.body) > MAX_BODY:
        raise InvalidMessage(f"{frame.name}: a body of {len(frame.body):,} bytes is over the limit")
    try:
        return kind.model_validate(payload.parsed(frame.body, frame.name))
    except ValidationError as error:
        raise InvalidMessage(f"{frame.name}: {reason_of(error)}") from None


def kinds_of(*kinds: type[AnyWord]) -> dict[str, type[AnyWord]]:
    """Returns kinds of words by their names on the wire."""
    return {kind.title(): kind for kind in kinds}


def answer_frame(service: str, word: Word) -> Frame:
    """Returns the frame of a word to the service that asked."""
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
        """Asks for the next part of a category's history. With `marked`, the token is in `after`
        too, which owners of any release send back as it was."""
        token = self._token(category)
        if marked:  # an empty place with a mark would be before other categories
            after = f"{after or f'{category}-'}{MARK}{token}"
        await self._ask(AskPart(category=category, token=token, service=self._service, after=after))

    async def streams(self, category: str, streams: Mapping[str, int]) -> None:
        """Asks for what these streams hold beyond the versions given."""
        wanted = list(streams.items())
        for start in range(0, len(wanted), STREAMS_AT_ONCE):
            some = dict(wanted[start : start + STREAMS_AT_ONCE])
            await self._ask(AskStreams(category=category, service=self._service, streams=some))

    async def heads(self, category: str, since: datetime) -> None:
        """Asks for the newest versions of the streams that were written since."""
        token = self._token(category)
        await self._ask(
            AskHeads(category=category, token=token, service=self._service, since=since)
        )

    async def is_answer(self, word: Word) -> bool:
        """Returns whether it brings back the token that this service asks the owner with.

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
