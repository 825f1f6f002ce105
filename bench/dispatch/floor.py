"""The floor: the handler looked up in a dictionary and awaited, which is what must be done."""

from bench import side
from bench.dispatch.service import Greet, Greeter, greet


async def measure(arguments: side.Arguments) -> side.Metrics:
    handlers, greeter, command = {Greet: greet}, Greeter(), Greet(name="Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await handlers[type(command)](command, greeter)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
