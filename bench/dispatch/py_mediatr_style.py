"""The peer py-mediatr: a handler class that its container builds, behaviors as documented."""

from dataclasses import dataclass
from typing import Any

from py_mediatR import (
    IPipelineBehavior,
    IRequest,
    LoggingBehavior,
    Mediator,
    RetryBehavior,
    ServiceContainer,
)

from bench import side


class Greeter:
    """The dependency."""


@dataclass
class Greet(IRequest):
    name: str


class GreetHandler:
    def __init__(self, greeter: Greeter) -> None:
        self.greeter = greeter

    async def handle(self, request: Greet) -> None:
        pass


class PassOn(IPipelineBehavior):
    async def handle(self, request: Any, next_handler: Any) -> Any:
        return await next_handler()


def behaviors(middleware: str) -> list[Any]:
    if middleware == "logging and retry":
        return [LoggingBehavior(), RetryBehavior(max_attempts=3, delay=0.1)]
    return [PassOn(), PassOn()] if middleware == "two more" else []


async def measure(arguments: side.Arguments) -> side.Metrics:
    container = ServiceContainer()
    container.register_singleton(Greeter)
    mediator = Mediator(
        auto_discover=False,
        handler_factory=container,
        behaviors=behaviors(arguments["middleware"]),
    )
    mediator.register_handler(Greet, GreetHandler)
    command = Greet("Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await mediator.send_async(command)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
