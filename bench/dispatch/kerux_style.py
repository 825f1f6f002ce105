"""The peer kerux: a handler object, to which its dependency is given by hand."""

from dataclasses import dataclass
from typing import Any

from kerux import Mediator, Request

from bench import side


class Greeter:
    """The dependency."""


@dataclass
class Greet(Request[None]):
    name: str


class GreetHandler:
    def __init__(self, greeter: Greeter) -> None:
        self.greeter = greeter

    async def handle(self, request: Greet) -> None:
        pass


async def pass_on(request: object, next: Any) -> Any:
    return await next()


async def measure(arguments: side.Arguments) -> side.Metrics:
    mediator = Mediator()
    mediator.register(Greet, GreetHandler(Greeter()))
    if arguments["middleware"] != "as it comes":
        mediator.add_behavior(pass_on)
        mediator.add_behavior(pass_on)
    command = Greet("Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await mediator.send(command)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
