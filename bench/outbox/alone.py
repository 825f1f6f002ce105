"""The application as it is, which publishes nothing: more orders than this nobody can publish."""

import time

from sqlalchemy.ext.asyncio import AsyncSession

from bench import side
from bench.outbox import shop


async def measure(arguments: side.Arguments) -> side.Metrics:
    seen: dict[str, float] = {}

    async def publish(_: AsyncSession, ids: list[str]) -> None:
        seen.update(dict.fromkeys(ids, time.monotonic()))

    own = shop.engine()
    await shop.make_tables(own)
    found = await shop.measure(arguments, own, publish, lambda: seen)
    await own.dispose()
    return found


if __name__ == "__main__":
    side.run(measure)
