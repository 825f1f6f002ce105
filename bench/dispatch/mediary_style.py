"""The peer mediary: a handler class made once, which is its fastest way."""

from dataclasses import dataclass
from typing import Any

from mediary import Mediator, Returns, behavior, handler, request
from mediary.behaviors import LoggingBehavior, RetryBehavior

from bench import side


class Greeter:
    """The dependency."""


@request
@dataclass
class Greet(Returns[None]):
    name: str


@handler(lifetime="singleton")
class GreetHandler:
    def __init__(self, greeter: Greeter) -> None:
        self.greeter = greeter

    async def handle(self, request: Greet) -> None:
        pass


class Container:
    """The resolver of its documentation: singletons by type, anything else is made."""

    def __init__(self) -> None:
        self.singletons: dict[Any, Any] = {GreetHandler: GreetHandler(Greeter())}

    def resolve(self, cls: Any) -> Any:
        return self.singletons.get(cls) or cls()


@behavior
async def pass_on(message: object, next: Any) -> Any:
    return await next()


@behavior
async def pass_on_too(message: object, next: Any) -> Any:
    return await next()


def use_behaviors(mediator: Any, middleware: str) -> None:
    if middleware == "logging and retry":
        mediator.use(LoggingBehavior(), order=-100)
        mediator.use(RetryBehavior(max_retries=3), kinds={"request"})
    elif middleware == "two more":
        mediator.use(pass_on)
        mediator.use(pass_on_too)


async def measure(arguments: side.Arguments) -> side.Metrics:
    mediator = Mediator(resolver=Container())
    mediator.register(Greet, GreetHandler)
    use_behaviors(mediator, arguments["middleware"])
    command = Greet("Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await mediator.send(command)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
