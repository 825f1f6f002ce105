"""Dead letters: messages that were given up, kept with their error until a retry succeeds."""

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
"""The errors of what RabbitMQ took out of its queue: no handler has failed on it."""
OF_THE_LOG = BY_BROKER | {InvalidMessage.__name__}
"""The errors of a projection's letters that the log may make up for. What nobody vouches for is
kept, because it shows that somebody else publishes here."""
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
    """Keeps a message that is given up, and returns the id of its dead letter; a retry that failed
    goes back to the letter it came from.

    A body over the limit is cut off one byte beyond it, so that a retry is refused as too large.
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
    """Counts refused messages of a queue beyond those that are kept, in one letter: it holds the
    first of them, and how many there were as `seen`.

    Raises: StoreUnavailable, OutcomeUnknown.
    """
    failure = failure_of(error, last.frame.name, last.queue)
    reason = f"stands for all that were refused and not kept; the first: {failure.reason}"
    letter = _letter(_rest_of(last.queue), last, failure._replace(reason=reason), last.queue, 1)
    await control.add_dead_letter(letter, times=count)


async def is_kept(control: KeepsLetters, delivery: Delivery) -> bool:
    """Returns whether it is the retry of a dead letter that is still there.

    Raises: StoreUnavailable.
    """
    letter = _letter_of(delivery)
    return bool(letter and await control.dead_letters(1, where={"_id": letter}, fields=("queue",)))


def _rest_of(queue: str) -> str:
    """Returns the id of the letter that stands for a queue's messages that are not kept."""
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
    """Returns the frame that brings a dead letter back to the one queue that gave it up."""
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
    """Removes the dead letter that a message was a retry of, if any, once it was handled."""
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
    """Removes the dead letters that a batch has settled, once it was projected to the target.

    Those are its retries whose stream has reached their version, by the batch or by the log.
    """
    retried = [delivery for delivery in deliveries if _letter_of(delivery)]
    if not retried:
        return
    places = [(delivery, place_of(delivery.frame.headers)) for delivery in retried]
    streams = {stream for _, (stream, _) in places}
    own = [stream for stream in streams if category_of(stream) in projection.categories]
    reached = await collections.versions(target, own)
    done = [delivery for delivery, place in places if _is_reached(place, reached)]
    await _remove(control, [_letter_of(delivery) for delivery in done], signals)


async def settled_in_log(
    collections: Collections,
    control: Control,
    projection: Projection[Any],
    target: Target,
    queues: Iterable[str],
    *,
    signals: Signals,
) -> None:
    """Removes the dead letters of a projection's queues whose streams have reached them by now:
    they were applied from the log. Raises: StoreUnavailable, OutcomeUnknown."""
    for queue in queues:
        letters = await control.dead_letters(
            MOST_LOOKED_AT, where={"queue": queue}, fields=("queue", "error", "headers")
        )
        of_the_log = filter(_is_of_the_log, letters)
        given_up = {letter["_id"]: place_of(letter["headers"]) for letter in of_the_log}
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
    """Returns the stream and the version in an event's headers; "" and 0 if there are none."""
    version = headers.get("version", 0)
    return str(headers.get("stream", "")), version if isinstance(version, int) else 0


async def _remove(control: KeepsLetters, letters: list[str], signals: Signals) -> None:
    if await control.remove_dead_letters(letters):
        signals.emit(LettersRepaired, letters)


def _letter_of(delivery: Delivery) -> str:
    """Returns the dead letter that a delivery is a retry of, or "". A header that names the letter
    of another message or queue is ignored: anybody could remove letters by it."""
    letter = str(delivery.frame.headers.get(DEAD_LETTER, ""))
    return letter if letter and letter.startswith(_letters_of(delivery)) else ""


def _letters_of(delivery: Delivery) -> str:
    """Returns how the ids of a message's dead letters begin."""
    return f"{delivery.queue}/{delivery.frame.id}/"


def _kept(frame: Frame) -> dict[str, str | int]:
    """Returns the message's own headers, fit for the store whatever they are."""
    return {
        _fit(key): value if isinstance(value, str) or abs(value) < 2**63 else str(value)
        for key, value in frame.headers.items()
        if key not in _NOT_KEPT
    }


def _fit(key: str) -> str:
    """Returns a field's name without NUL, and without a leading `$`, which could make it an
    operator."""
    key = key.replace("\0", "\\0")
    return f"\\{key}" if key.startswith("$") else key
