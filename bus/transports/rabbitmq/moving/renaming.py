"""Brings the messages of a renamed subscription to its new queue, which is bound already.

The old queue is unbound, emptied, and deleted last: while it is there, the renaming is not over,
and can be repeated. What waits in a delay to come back to it is made to come back to the new one.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from bus.errors import ConfigurationError
from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.moving.draining import (
    counts,
    drain,
    put_all,
    require_no_consumers,
    unbind,
)


class Waiting(NamedTuple):
    """What a message says of itself: its wire name, its id, and the stream of its event."""

    name: str
    id: str
    stream: str


Handled = Callable[[Sequence[Waiting]], Awaitable[Sequence[bool]]]
"""Says of each message whether it was handled under the old name. May raise for one that the new
subscription does not handle."""


class Renaming(NamedTuple):
    """A queue and its successor, by names. `bindings` are those of the old one; `delays` are queues
    whose messages come back by their routing key; `letters` is the header that names the dead
    letter of a retry, whose id begins with the queue's name."""

    old: str
    new: str
    bindings: Collection[tuple[str, str]]
    delays: Sequence[str]
    letters: str


async def detach(session: RabbitSession, renaming: Renaming) -> bool:
    """Unbinds the old queue; returns whether there is one (any more).

    Raises: TransportUnavailable if it is consumed.
    """
    if not await _exists(session, renaming.old):
        return False
    await require_no_consumers(session, renaming.old)
    channel = await session.channel(confirms=False)
    await unbind(channel, renaming.old, renaming.bindings)
    await genuine(channel.close())
    return True


async def bring(session: RabbitSession, renaming: Renaming, handled: Handled) -> int:
    """Empties the old queue into the new one, and has delays come back to it; returns how many
    messages came.

    What was `handled` is left out: it came again only because its acknowledgement was lost.
    Raises: what `handled` raises; what came until then is kept, and the next call goes on.
    """
    channel = await session.channel(confirms=False)
    bringing = _Bringing(renaming, handled)
    brought, is_calm = 0, False
    while True:  # until nothing came twice: what left a delay may be on its way
        came = await drain(session, renaming.old, bringing.bring)
        delayed = sum([await _redirect(session, channel, bringing, d) for d in renaming.delays])
        brought += came + delayed
        if not came + delayed and is_calm:
            break
        is_calm = not came + delayed
    await genuine(channel.close())
    return brought


async def remove_emptied(session: RabbitSession, renaming: Renaming, handled: Handled) -> int:
    """Deletes the old queue; returns how many messages were deleted with it, which should be none.

    Raises: TransportUnavailable if it is consumed.
    """
    await drain(session, renaming.old, _Bringing(renaming, handled).bring)
    await require_no_consumers(session, renaming.old)
    channel = await session.channel(confirms=False)
    deleted = await genuine(channel.queue_delete(renaming.old))
    await genuine(channel.close())
    return deleted.message_count or 0


async def _exists(session: RabbitSession, queue: str) -> bool:
    channel = await session.channel(confirms=False)
    try:
        await counts(channel, queue)
    except ChannelNotFoundEntity:  # which has closed the channel
        return False
    await genuine(channel.close())
    return True


async def _redirect(
    session: RabbitSession, channel: AbstractChannel, bringing: "_Bringing", delay: str
) -> int:
    """Has what is in a delay come back to the new queue instead of the old one; returns how many
    messages. All that was in it begins its delay anew."""
    ready, _ = await counts(channel, delay)
    return await drain(session, delay, bringing.redirect, most=ready) if ready else 0


class _Bringing:
    """Publishes what is taken to where it belongs now."""

    def __init__(self, renaming: Renaming, handled: Handled) -> None:
        self._names = renaming
        self._handled = handled

    async def bring(self, channel: AbstractChannel, messages: Sequence[DeliveredMessage]) -> int:
        """Brings messages of the old queue to the new one; returns how many it kept."""
        handled = await self._handled([_waiting(message) for message in messages])
        kept = [message for message, over in zip(messages, handled, strict=True) if not over]
        for message in kept:
            self._rename_letter(message)
        return await put_all(channel, kept, lambda _: ("", self._names.new))

    async def redirect(self, channel: AbstractChannel, messages: Sequence[DeliveredMessage]) -> int:
        """Puts messages back into their delay; returns how many were to come back to the old
        queue."""
        ours = [message for message in messages if message.routing_key == self._names.old]
        for message in ours:
            self._rename_letter(message)
        await put_all(channel, messages, self._delayed)
        return len(ours)

    def _delayed(self, message: DeliveredMessage) -> tuple[str, str]:
        back = message.routing_key or ""
        return message.exchange or "", self._names.new if back == self._names.old else back

    def _rename_letter(self, message: DeliveredMessage) -> None:
        """Has a retry of a dead letter settle the letter by its new id."""
        headers = message.header.properties.headers or {}
        letter = headers.get(self._names.letters)
        if isinstance(letter, str) and letter.startswith(f"{self._names.old}/"):
            headers[self._names.letters] = f"{self._names.new}{letter[len(self._names.old) :]}"


def _waiting(message: DeliveredMessage) -> Waiting:
    properties = message.header.properties
    sent_as = properties.message_id or ""
    headers: Mapping[str, object] = properties.headers or {}
    identity, _, _ = sent_as.rpartition("#")  # what an attempt at publishing adds
    return Waiting(
        properties.message_type or "", identity or sent_as, str(headers.get("stream", ""))
    )


def unhandled(queue: str, name: str, old: str) -> ConfigurationError:
    """Returns the error for a message that the new subscription does not handle."""
    return ConfigurationError(
        f"{old} holds {name}, which {queue} does not handle, so that it would be lost there. "
        f"Handle it in that router, or, if nobody needs it, let `bus topology prune APP "
        f"--with-messages` remove what is left; what was brought so far stays where it is"
    )
