"""Dead letters: messages given up, kept with their error until a retry of them succeeds."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from bus.codec import ATTEMPT, DEAD_LETTER, RETURNED, WAITED
from bus.common.fingerprint import Failure, failure_of
from bus.data.ids import category_of
from bus.data.payload import Document
from bus.errors import InvalidMessage
from bus.observe.listeners import Signals
from bus.observe.signals import GaveUp, LettersRepaired
from bus.read.projection import Projection
from bus.stores.collections import Collections, Target
from bus.stores.control import Control
from bus.stores.deadletters import KeepsLetters
from bus.transports.base import DEATH_QUEUE, DEATH_REASON, MAX_BODY, Delivery, Frame

MOST_LOOKED_AT = 1000
BY_BROKER = frozenset({"GivenUp", "DeliveryLimitReached", "Expired", "QueueTooLong"})
"""The errors of what RabbitMQ took out of its queue: nobody found it wanting."""
OF_THE_LOG = BY_BROKER | {InvalidMessage.__name__}
"""The errors of a projection's letters that the log may make up for. What nobody vouches for is
kept: it is a sign of who else publishes here."""
_NOT_KEPT = {ATTEMPT, DEAD_LETTER, RETURNED, DEATH_QUEUE, DEATH_REASON, WAITED}


async def bury(
    control: KeepsLetters,
    delivery: Delivery,
    error: BaseException,
    *,
    handler: str,
    attempts: int,
    signals: Signals,
) -> str:
    """Keeps a message that is given up; a retry that failed falls back on its own dead letter,
    whose id it returns.

    Of a body over the limit it keeps so much that a retry of it is refused as too large.
    Raises: StoreUnavailable, OutcomeUnknown.
    """
    frame = delivery.frame
    id = _letter_of(delivery) or f"{_letters_of(delivery)}{zlib.crc32(frame.body):08x}"
    failure = failure_of(error, frame.name, handler)
    await control.add_dead_letter(_letter(id, delivery, failure, handler, attempts))
    stream, version = place_of(frame.headers)
    signals.emit(
        GaveUp,
        queue=delivery.queue,
        message=frame.name,
        message_id=frame.id,
        error=failure.error,
        reason=failure.reason[:500],
        group=failure.fingerprint,
        letter=id,
        attempts=attempts,
        stream=stream[:200],
        version=version if stream else None,
    )
    return id


async def bury_the_rest(
    control: KeepsLetters, last: Delivery, error: BaseException, *, count: int
) -> None:
    """Counts messages of a queue that are refused beyond those that are kept: one letter, which
    holds the first of them, and how many there were as `seen`.

    Raises: StoreUnavailable, OutcomeUnknown.
    """
    failure = failure_of(error, last.frame.name, last.queue)
    reason = f"stands for all that were refused and not kept; the first: {failure.reason}"
    letter = _letter(_rest_of(last.queue), last, failure._replace(reason=reason), last.queue, 1)
    await control.add_dead_letter(letter, times=count)


async def is_kept(control: KeepsLetters, delivery: Delivery) -> bool:
    """Whether it is the retry of a dead letter that is there. Raises: StoreUnavailable."""
    letter = _letter_of(delivery)
    return bool(letter and await control.dead_letters(1, where={"_id": letter}, fields=("queue",)))


def _rest_of(queue: str) -> str:
    """The id of the letter that stands for those of a queue that are not kept."""
    return f"{queue}/the rest"


def _letter(id: str, delivery: Delivery, failure: Failure, handler: str, attempts: int) -> Document:
    frame = delivery.frame
    return {
        "_id": id,
        "queue": delivery.queue,
        "handler": handler,
        "message": frame.name,
        "message_id": frame.id,
        "correlation_id": frame.correlation_id,
        "headers": _kept(frame),
        "body": frame.body[: MAX_BODY + 1],
        **failure._asdict(),
        "attempts": attempts,
        "time": frame.time,
    }


def frame_of(letter: Document) -> Frame:
    """The frame that brings a dead letter back to the one queue that gave it up."""
    return Frame(
        address="queue",
        topic=letter["queue"],
        id=letter["message_id"],
        name=letter["message"],
        body=letter["body"],
        time=letter["time"],
        correlation_id=letter["correlation_id"],
        headers={**letter["headers"], DEAD_LETTER: letter["_id"]},
    )


async def repaired(control: KeepsLetters, delivery: Delivery, *, signals: Signals) -> None:
    """To be called once a message was handled: removes the dead letter that it was a retry of."""
    letter = _letter_of(delivery)
    if letter:
        await _remove(control, [letter], signals)


async def repaired_in(
    collections: Collections,
    control: Control,
    projection: Projection[Any],
    target: Target,
    deliveries: Iterable[Delivery],
    *,
    signals: Signals,
) -> None:
    """To be called once a batch was projected there: removes the dead letters that it settled.

    Those are the ones whose stream has reached their version, by what came or by the log.
    """
    retried = [delivery for delivery in deliveries if _letter_of(delivery)]
    if not retried:
        return
    streams = {place_of(one.frame.headers)[0] for one in retried}
    own = [one for one in streams if category_of(one) in projection.categories]
    reached = await collections.versions(target, own)
    done = [one for one in retried if _is_reached(place_of(one.frame.headers), reached)]
    await _remove(control, [_letter_of(one) for one in done], signals)


async def settled_in_log(
    collections: Collections,
    control: Control,
    projection: Projection[Any],
    target: Target,
    queues: Iterable[str],
    *,
    signals: Signals,
) -> None:
    """Removes the dead letters of a projection's queues whose streams have got there, in whatever
    way: the log had them. Raises: StoreUnavailable, OutcomeUnknown."""
    for queue in queues:
        letters = await control.dead_letters(
            MOST_LOOKED_AT, where={"queue": queue}, fields=("queue", "error", "headers")
        )
        given_up = {one["_id"]: place_of(one["headers"]) for one in letters if _is_of_the_log(one)}
        own = {s for s, _ in given_up.values() if category_of(s) in projection.categories}
        reached = await collections.versions(target, sorted(own)) if own else {}
        done = [id for id, place in given_up.items() if _is_reached(place, reached)]
        if done:
            await _remove(control, done, signals)


def _is_of_the_log(letter: Document) -> bool:
    return letter["error"] in OF_THE_LOG and letter["_id"] != _rest_of(letter["queue"])


def _is_reached(place: tuple[str, int], reached: dict[str, int]) -> bool:
    stream, version = place
    return 0 < version <= reached.get(stream, 0)


def place_of(headers: Mapping[str, Any]) -> tuple[str, int]:
    """The stream and the version that an event's headers tell; "" and 0 where they tell none."""
    version = headers.get("version", 0)
    return str(headers.get("stream", "")), version if isinstance(version, int) else 0


async def _remove(control: KeepsLetters, letters: list[str], signals: Signals) -> None:
    if await control.remove_dead_letters(letters):
        signals.emit(LettersRepaired, letters)


def _letter_of(delivery: Delivery) -> str:
    """The dead letter that a delivery is a retry of, if any: no frame speaks for the letter of
    another message, or of another queue."""
    letter = str(delivery.frame.headers.get(DEAD_LETTER, ""))
    return letter if letter and letter.startswith(_letters_of(delivery)) else ""


def _letters_of(delivery: Delivery) -> str:
    """How the ids of a message's dead letters begin."""
    return f"{delivery.queue}/{delivery.frame.id}/"


def _kept(frame: Frame) -> dict[str, str | int]:
    """The headers that the message came with, fit for the store, whoever made them."""
    return {
        _fit(key): value if isinstance(value, str) or abs(value) < 2**63 else str(value)
        for key, value in frame.headers.items()
        if key not in _NOT_KEPT
    }


def _fit(key: str) -> str:
    """A field's name without NUL, and without a `$` in front, which might make it an operator."""
    key = key.replace("\0", "\\0")
    return f"\\{key}" if key.startswith("$") else key
