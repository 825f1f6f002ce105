"""The service that our sides dispatch to: in memory, so that nothing but the dispatch is measured.

Every guarantee is on: an identity and a time for each message, a unit of work that commits what the
handler changed (nothing), a receipt.
"""

from typing import Any

from bench.side import Arguments
from bus import Bus, Command, Envelope, Next, Query, Router, Settings


class Greeter:
    """The dependency."""


class Greet(Command):
    name: str


class FindGreeting(Query[None]):
    name: str


greetings = Router("greetings")


@greetings.command
async def greet(command: Greet, greeter: Greeter) -> None:
    pass


@greetings.query
async def find_greeting(query: FindGreeting, greeter: Greeter) -> None:
    pass


async def pass_on(envelope: Envelope, following: Next) -> Any:
    return await following(envelope)


def build(arguments: Arguments) -> Bus:
    return Bus(
        arguments["service"],
        routers=[greetings],
        settings=Settings.in_memory(),
        provide={Greeter: Greeter()},
        middleware=[pass_on, pass_on] if arguments["middleware"] == "two more" else [],
    )
