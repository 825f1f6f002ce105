"""A service whose handlers, by a session and by what they record, are under names of choice."""

from bus import Bus, Envelope, Event, Outbox, Retry, RetryPolicy, Router, Session, Settings
from bus.errors import Reject
from tests.service.wallet import Paid, payments

LATER = 600.0
"""Seconds: what is put off does not come back in a test."""


class Echoed(Event):
    of: str


class Mood:
    """Whether handlers have what they lacked under their old names."""

    def __init__(self, *, is_mended: bool = False) -> None:
        self.is_mended = is_mended


def build(
    settings: Settings,
    service: str = "renamed",
    *,
    tallies: str = "tallies",
    echoes: str = "echoes",
    is_mended: bool = False,
) -> Bus:
    """Counts payments in a collection by the router `tallies`, and records an echo of each by the
    router `echoes`."""
    counting, echoing = Router(tallies), Router(echoes, retry=RetryPolicy(tries=1, delays=()))

    @counting.event
    async def count(event: Paid, envelope: Envelope, session: Session) -> None:
        await session.documents("counted").update(envelope.stream, {"$inc": {"times": 1}})

    @echoing.event
    async def echo(event: Paid, envelope: Envelope, outbox: Outbox, mood: Mood) -> None:
        if event.mood == "later" and not mood.is_mended:
            raise Retry(delay=LATER)
        if event.mood == "hopeless" and not mood.is_mended:
            raise Reject("under this name")
        outbox.publish(Echoed(of=envelope.stream))

    return Bus(
        service,
        routers=[payments(), counting, echoing],
        settings=settings,
        provide={Mood: Mood(is_mended=is_mended)},
    )
