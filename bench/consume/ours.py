"""Our side, as a user writes it: an event handler of a router, run by a worker.

Failures would be tried again and end as dead letters, a stream's events come in order, one
acknowledgement follows each handler; relay and sentinel run beside it.
"""

from bench import side
from bench.clock import Handled
from bench.consume.messages import AccountOpened, fill, keep, know_the_key
from bench.queues import expect
from bus import Bus, Router, Settings, Worker
from bus.transports.topology import handler_queue


async def fill_queue(arguments: side.Arguments) -> None:
    await fill(arguments, handler_queue(arguments["service"], "accounts", ["AccountOpened"]))


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count = arguments["service"], arguments["count"]
    accounts, handled = Router("accounts"), Handled(count)

    @accounts.event
    async def opened(event: AccountOpened) -> None:
        handled()

    with side.worker(arguments, "fill"):
        pass
    bus = Bus(service, routers=[accounts], settings=Settings(prefetch=1000))
    await know_the_key(bus.runtime.control)
    async with bus:
        await keep(bus.runtime.event_log, count)
        async with Worker(bus, only=["accounts"]):
            await handled.all()
    await expect(f"{service}.accounts", 0)
    return handled.clock.metrics(count)


if __name__ == "__main__":
    side.run(measure, fill=fill_queue)
