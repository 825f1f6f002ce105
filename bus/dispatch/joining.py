"""A unit of work within a transaction of the application's own: the outbox, without handlers."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from bus.codec import new_envelope
from bus.common import clock
from bus.errors import ConfigurationError
from bus.messages import Command, Event, Message
from bus.stores.event_log import EventLog
from bus.stores.session import Joined
from bus.write.unit_of_work import Outbox, Publishing, UnitOfWork


class JoinedOutbox(Outbox):
    """The outbox of a block: what it is given goes with the application's transaction."""

    first: Message | None = None
    is_over = False

    def send(self, command: Command) -> str:
        """Sends a command to this service's queue; returns the id under which it will run.

        Raises: InvalidMessage, ConfigurationError (the block is over).
        """
        self._check("send")
        id = super().send(command)
        self.first = self.first or command
        return id

    def publish(self, event: Event, *, stream: str | None = None) -> None:
        """Publishes an event: in a stream of the service's own, or as the next one of `stream`, as
        in `stream="order-17"` (a category, a hyphen, an id).

        Raises: InvalidMessage, ConfigurationError (the category is an aggregate's, another
        service's, or the service's own; or the block is over).
        """
        self._check("publish")
        super().publish(event, stream=stream)
        self.first = self.first or event

    def _check(self, what: str) -> None:
        if self.is_over:
            raise ConfigurationError(
                f"{what}(): its unit of work is over, and what came later would be lost; call it "
                f"within `async with bus.unit_of_work(session) as work:`"
            )


@asynccontextmanager
async def joined_work(
    joined: Joined,
    service: str,
    log: EventLog,
    publishing: Publishing,
    correlation_id: str | None,
    headers: Mapping[str, str] | None,
) -> AsyncGenerator[Outbox, None]:
    """Lends an outbox; at the end of the block its commits are a part of the joined transaction.

    Raises: what `Joined` raises, InvalidMessage.
    """
    outbox = JoinedOutbox(clock.new_id(), publishing.taken)
    try:
        yield outbox
    finally:
        outbox.is_over = True
    if outbox.first is None:
        return
    envelope = new_envelope(outbox.first, outbox.seed, correlation_id, headers)
    with publishing.signals.publishing(envelope) as traced:
        work = UnitOfWork(envelope.id, service, traced, log, publishing, outbox=outbox)
        await outbox.locate(joined)
        commits = work.prepare()
        began = time.monotonic()

        def stored() -> None:
            work.tell_stored(time.monotonic() - began)
            work.offer()

        await joined.append(commits, stored)
