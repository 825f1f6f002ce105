"""What AMQP alone can tell: whether what is declared, or once was, exists, and how much is in it.

It knows neither policies nor bindings, nor what else is there.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed

from bus.transports.rabbitmq.connection import RabbitSession, genuine
from bus.transports.rabbitmq.planning.found import Found, FoundExchange, FoundQueue, Unseen
from bus.transports.rabbitmq.planning.wanted import (
    DIRECT,
    WantedQueue,
    wanted_exchanges,
    wanted_queues,
)
from bus.transports.topology import Topology

_MORE = (
    "set BUS_MANAGEMENT_URL, or give --definitions FILE, made by "
    "`rabbitmqctl export_definitions FILE`"
)
UNSEEN = tuple(
    Unseen(what, _MORE)
    for what in (
        "bindings",
        "policies",
        "what nobody declares, but for queues that this service declared once",
    )
)
ARGUMENTS = Unseen("types and arguments", _MORE)


Noted = Mapping[str, frozenset[tuple[str, str]]]
"""Bindings of queues that were once declared, by name."""


async def look(
    session: RabbitSession, topology: Topology, *, compares: bool, noted: Noted
) -> Found:
    """Returns what there is of a topology, and of queues that were `noted`. Makes nothing.

    With `compares`, what exists of the service's own is declared once more, which changes nothing,
    and is refused if it has other properties; the user needs the right to configure it.
    """
    own = f"{topology.service}."
    asking = _Asking(session, compares=compares)
    wanted = wanted_queues(topology)
    queues = [await asking.queue(queue) for queue in wanted]
    queues += [await asking.other(queue.aside.name) for queue in wanted]
    queues += [await asking.other(name, noted[name]) for name in _others(noted, wanted)]
    kinds = wanted_exchanges(topology).items()
    exchanges = [
        await asking.exchange(name, kind, is_own=name.startswith(own)) for name, kind in kinds
    ]
    await asking.close()
    return Found(
        "AMQP",
        {queue.name: queue for queue in queues if queue},
        {exchange.name: exchange for exchange in exchanges if exchange},
        is_whole=False,
        unseen=UNSEEN if compares and not asking.was_refused else (ARGUMENTS, *UNSEEN),
    )


async def try_rights(session: RabbitSession, service: str, *, declares: bool) -> None:
    """Does what changes nothing and needs the rights of a service: writes to the default exchange,
    for nobody; if it `declares`, declares an exchange of its own once more. To that one
    nothing is written here: of another type, it may bring to a queue what is for nobody.

    Raises: the driver's errors.
    """
    own = f"{service}.commands"
    channel = await session.channel(confirms=True)
    await genuine(channel.exchange_declare(own, passive=True))
    if declares:
        await genuine(channel.exchange_declare(own, exchange_type=DIRECT, durable=True))
    await genuine(channel.basic_publish(b"", exchange="", routing_key=f"{service}.?"))
    await genuine(channel.close())


def _others(noted: Noted, wanted: Sequence[WantedQueue]) -> list[str]:
    known = {name for queue in wanted for name in (queue.name, queue.aside.name)}
    return sorted(noted.keys() - known)


class _Asking:
    """Asks on one channel, and on another one after each refusal, which closes it."""

    def __init__(self, session: RabbitSession, *, compares: bool) -> None:
        self._session = session
        self._compares = compares
        self._channel: AbstractChannel | None = None
        self.was_refused = False
        """Whether something could not be compared for lack of a right."""

    async def queue(self, wanted: WantedQueue) -> FoundQueue | None:
        """Returns the queue, or None if there is none."""
        answer = await self._answer(lambda c: c.queue_declare(wanted.name, passive=True))
        if isinstance(answer, ChannelNotFoundEntity):
            return None
        if isinstance(answer, ChannelClosed):
            self.was_refused = True
            return FoundQueue(wanted.name)
        arguments = dict(wanted.arguments)
        refusal = await self._refusal(
            lambda c: c.queue_declare(wanted.name, durable=True, arguments=arguments)
        )
        return FoundQueue(wanted.name, answer.message_count, answer.consumer_count, refusal=refusal)

    async def other(
        self, name: str, bindings: frozenset[tuple[str, str]] | None = None
    ) -> FoundQueue | None:
        """Returns a queue that is not declared, or None if there is none. `bindings` are those that
        it once had."""
        answer = await self._answer(lambda c: c.queue_declare(name, passive=True))
        if isinstance(answer, ChannelClosed):  # gone, or not this user's to see
            return None
        return FoundQueue(name, answer.message_count, answer.consumer_count, bindings=bindings)

    async def exchange(self, name: str, kind: str, *, is_own: bool) -> FoundExchange | None:
        """Returns the exchange, or None if there is none."""
        answer = await self._answer(lambda c: c.exchange_declare(name, passive=True))
        if isinstance(answer, ChannelNotFoundEntity):
            return None
        if not is_own:
            return FoundExchange(name)
        refusal = await self._refusal(
            lambda c: c.exchange_declare(name, exchange_type=kind, durable=True)
        )
        return FoundExchange(name, refusal=refusal)

    async def close(self) -> None:
        if self._channel is not None:
            await genuine(self._channel.close())

    async def _refusal(self, declare: Callable[[AbstractChannel], Awaitable[Any]]) -> str:
        if not self._compares:
            return ""
        answer = await self._answer(declare)
        if isinstance(answer, ChannelPreconditionFailed):
            return f"RabbitMQ says: {answer}"
        self.was_refused |= isinstance(answer, ChannelClosed)
        return ""

    async def _answer(self, question: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
        """Returns the answer, or the error that closed the channel."""
        channel = self._channel or await self._session.channel(confirms=False)
        self._channel = None
        try:
            answer = await genuine(question(channel))
        except ChannelClosed as error:
            return error
        self._channel = channel
        return answer
