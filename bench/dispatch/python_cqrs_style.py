"""The peer python-cqrs: `bootstrap` with the container of its quick start, which adds logging."""

from dataclasses import dataclass
from typing import Any

import cqrs
import di
from cqrs.bootstrap import requests as bootstrap
from di import dependent

from bench import side


class Greeter:
    """The dependency."""


@dataclass
class Greet(cqrs.Request[None]):
    name: str


class GreetHandler(cqrs.RequestHandler[Greet]):
    def __init__(self, greeter: Greeter) -> None:
        self.greeter = greeter

    async def handle(self, request: Greet) -> None:
        pass


class PassOn:
    async def __call__(self, request: Any, handle: Any) -> Any:
        return await handle(request)


def bind(mapper: cqrs.RequestMap) -> None:
    mapper.bind(Greet, GreetHandler)


async def measure(arguments: side.Arguments) -> side.Metrics:
    container = di.Container()
    container.bind(di.bind_by_type(dependent.Dependent(Greeter, scope="request"), Greeter))
    own = {"as it comes": 0, "logging and retry": 1, "two more": 2}[arguments["middleware"]]
    mediator = bootstrap.bootstrap(
        di_container=container,
        commands_mapper=bind,
        middlewares=[PassOn() for _ in range(own)],
    )
    command = Greet(name="Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await mediator.send(command)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
