"""The peer mediatorx: a handler class that a factory of the author's own builds at each call."""

from dataclasses import dataclass
from typing import Any

from mediatorx import DictResolver, ICommand, ICommandHandler, IPipelineBehavior, Mediator

from bench import side


class Greeter:
    """The dependency."""


@dataclass
class Greet(ICommand[None]):
    name: str


class GreetHandler(ICommandHandler[Greet, None]):
    def __init__(self, greeter: Greeter) -> None:
        self.greeter = greeter

    async def handle(self, command: Greet) -> None:
        pass


class PassOn(IPipelineBehavior[Any, Any]):
    async def handle(self, message: Any, next: Any) -> Any:
        return await next()


async def measure(arguments: side.Arguments) -> side.Metrics:
    greeter, resolver = Greeter(), DictResolver()
    resolver.add_factory(GreetHandler, lambda: GreetHandler(greeter))
    resolver.add_instance(PassOn, PassOn())
    mediator = Mediator(resolver=resolver)
    mediator.register(Greet, GreetHandler)
    if arguments["middleware"] != "as it comes":
        mediator.add_behavior(PassOn)
        mediator.add_behavior(PassOn)
    command = Greet("Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await mediator.send(command)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
