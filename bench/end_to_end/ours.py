"""Our side: a service of one aggregate and one projection. `driver` executes, `worker` projects.

Every guarantee is on: majority and journaled writes, confirms, pending marks, exactly once.
"""

import asyncio
import signal
import sys
import time

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Event,
    Projection,
    Repository,
    Router,
    Settings,
    Update,
    Worker,
)


class OpenAccount(Command):
    account_id: str
    owner: str
    note: str


class AccountOpened(Event):
    account_id: str
    owner: str
    note: str


class Account(Aggregate):
    def apply(self, event: Event) -> None:
        match event:
            case AccountOpened():
                pass


class AccountView(BaseModel):
    owner: str
    note: str


accounts = Router("accounts")
views = Projection("views", of=[Account], view=AccountView)


@accounts.command
async def open_account(command: OpenAccount, repository: Repository[Account]) -> None:
    account = Account(command.account_id)
    account.record(AccountOpened(**command.model_dump()))
    repository.add(account)


@views.on(AccountOpened)
def opened(event: AccountOpened) -> Update:
    return {"$set": {"owner": event.owner, "note": event.note}}


def build(service: str) -> Bus:
    return Bus(service, routers=[accounts], projections=[views], settings=Settings())


async def drive(bus: Bus, count: int, concurrent: int) -> None:
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await bus.execute(OpenAccount(account_id=f"a{number}", owner="Ada", note="x" * 400))

    async with bus:
        print(time.time(), flush=True)
        await asyncio.gather(*(client() for _ in range(concurrent)))


async def work(bus: Bus) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with bus, Worker(bus, only=["views"]):
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    role, service, *rest = sys.argv[1:]
    if role == "driver":
        asyncio.run(drive(build(service), int(rest[0]), int(rest[1])))
    else:
        asyncio.run(work(build(service)))
