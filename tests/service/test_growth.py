"""Nothing grows with time, nor with work that is done: an API, a relay, a worker and a watcher."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from bus import Bus, Settings, Worker
from bus.common.tasks import end
from bus.write.relay import Relay
from tests.databases import drop
from tests.growth import FastLoop, grown, objects
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import until

IDLE = 80.0
"""Seconds of a loop that is twenty times as fast: thousands of turns. A connection that hears
nothing for 180 of them counts as stuck, so this stays below."""
SETTLED = 20.0
"""Of the same: after it nothing is under way any more."""
PAYMENTS = 1000
WALLETS = 20
TIMES = 3
SOME = 150
"""What comes and goes by itself, of one type: timers, messages that are under way."""


@asynccontextmanager
async def everything(settings: Settings, service: str, diary: Diary) -> AsyncIterator[Bus]:
    """All that a service runs, in one process."""
    async with AsyncExitStack() as stack:
        api, relaying, working = [
            await stack.enter_async_context(build(settings, diary, service)) for _ in range(3)
        ]
        runtime = relaying.runtime
        relay = Relay(runtime.event_log, runtime.publisher, runtime.control)
        tasks = [asyncio.create_task(relay.run()), asyncio.create_task(watching(api))]
        stack.push_async_callback(end, tasks)
        await stack.enter_async_context(Worker(working))
        yield api


async def watching(bus: Bus) -> None:
    async for _ in bus.watch(GetWallet(wallet_id="w0")):
        pass


async def idle(seconds: float = IDLE) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FastLoop)
    await loop.idle(seconds)


def working(bus: Bus, diary: Diary) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        diary.seen.clear()
        diary.tries.clear()
        for _ in range(PAYMENTS // WALLETS):
            payments = (Pay(wallet_id=f"w{number}", amount=1) for number in range(WALLETS))
            await asyncio.gather(*map(bus.execute, payments))
        await until(lambda: len(diary.seen) == PAYMENTS, "all payments handled")
        diary.seen.clear()
        diary.tries.clear()
        await idle(SETTLED)

    return work


async def more_after(work: Callable[[], Awaitable[None]]) -> dict[str, int]:
    """What there is more of after it was done once more: what leaks is there each time, and what is
    under way while a server does not answer goes."""
    await work()
    before = objects()
    more: dict[str, int] = {}
    for _ in range(TIMES):
        await work()
        if not (more := grown(before, objects(), at_least=SOME)):
            break
    return more


def test_a_process_holds_no_more_after_thousands_of_turns_and_messages(
    amqp_url: str, mongo_url: str, unique: str
) -> None:
    settings = Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=unique, heartbeat=60)

    async def whole() -> None:
        diary = Diary()
        async with everything(settings, unique, diary) as bus:
            assert await more_after(idle) == {}
            assert await more_after(working(bus, diary)) == {}
        await drop(mongo_url, unique)

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(whole())
    gc.collect()
