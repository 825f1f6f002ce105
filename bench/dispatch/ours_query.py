"""Our side, a query: the same way without anything to commit."""

from bench import side
from bench.dispatch.service import FindGreeting, build


async def measure(arguments: side.Arguments) -> side.Metrics:
    query = FindGreeting(name="Ada")
    async with build(arguments) as bus:

        async def loop(count: int) -> None:
            for _ in range(count):
                await bus.query(query)

        return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
