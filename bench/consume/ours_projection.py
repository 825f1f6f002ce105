"""Our side, as a projection whose handler changes nothing: the path of batches.

The versions that the streams reached are kept in memory, so that no database is measured. A batch
is decoded, compared with these versions, folded and acknowledged at once.
"""

from pydantic import BaseModel

from bench import side
from bench.clock import Handled
from bench.consume.messages import Account, AccountOpened, fill, keep, know_the_key
from bench.queues import expect
from bus import Bus, Projection, Settings, Update, Worker
from bus.settings import MEMORY
from bus.transports.topology import projection_queues


class View(BaseModel):
    owner: str


async def fill_queue(arguments: side.Arguments) -> None:
    (queue,) = projection_queues(arguments["service"], "accounts", [Account.category], 1)
    await fill(arguments, queue)


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count = arguments["service"], arguments["count"]
    accounts, handled = Projection("accounts", of=[Account], view=View), Handled(count)

    @accounts.on(AccountOpened)
    def opened(event: AccountOpened) -> Update | None:
        handled()
        return None

    with side.worker(arguments, "fill"):
        pass
    settings = Settings(prefetch=1000, mongo_url=MEMORY)
    bus = Bus(service, projections=[accounts], settings=settings)
    await know_the_key(bus.runtime.control)
    async with bus:
        await keep(bus.runtime.event_log, count)
        async with Worker(bus, only=["accounts"]):
            await handled.all()
    await expect(f"{service}.accounts", 0)
    return handled.clock.metrics(count)


if __name__ == "__main__":
    side.run(measure, fill=fill_queue)
