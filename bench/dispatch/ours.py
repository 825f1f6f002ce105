"""Our side, a command: its receipt tells that nothing had to be stored."""

from bench import side
from bench.dispatch.service import Greet, build


async def measure(arguments: side.Arguments) -> side.Metrics:
    command = Greet(name="Ada")
    async with build(arguments) as bus:

        async def loop(count: int) -> None:
            for _ in range(count):
                await bus.execute(command)

        return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
