"""The peer cqrs-bus: a handler whose dependencies its resolver fills in when it is built.

Its discovery does the same for whole packages of handlers.
"""

from dataclasses import dataclass
from typing import Any

from cqrs_bus import Command, CommandBus, CommandHandler, DependencyResolver

from bench import side


class Greeter:
    """The dependency."""


@dataclass
class Greet(Command[None]):
    name: str


class GreetHandler(CommandHandler[Greet, None]):
    def __init__(self, greeter: Greeter) -> None:
        self.greeter = greeter

    async def handle(self, command: Greet) -> None:
        pass


async def pass_on(message: Any, call_next: Any) -> Any:
    return await call_next(message)


async def measure(arguments: side.Arguments) -> side.Metrics:
    bus = CommandBus(middleware=[] if arguments["middleware"] == "as it comes" else [pass_on] * 2)
    handler = DependencyResolver().create_handler_instance(GreetHandler, {Greeter: Greeter()})
    bus.register(Greet, handler)
    command = Greet("Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await bus.dispatch(command)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
