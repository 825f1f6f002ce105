"""A store of another technology that is away: what can be told of its projection, and of others."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Event,
    Projection,
    Projections,
    Repository,
    Router,
    Settings,
    StoreUnavailable,
    Update,
    Upsert,
    Worker,
)
from bus.stores.collections import Target
from bus.stores.sinks.memory import MemoryPlace, MemorySink
from tests.waiting import until

WHY = "the store at nowhere:1 cannot be reached"


class Opened(Event):
    owner: str


class Account(Aggregate, events=[Opened]):
    def apply(self, event: Event) -> None:
        """It decides nothing by what happened."""


class Open(Command):
    account_id: str


class Owner(BaseModel):
    owner: str


class Leaving(MemoryPlace):
    away = False

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        if self.away:
            raise StoreUnavailable(WHY)
        return await super().versions(target, streams)


class LeavingSink(MemorySink):
    def __init__(self) -> None:
        super().__init__()
        self._place: Leaving = Leaving()

    def leave(self) -> None:
        self._place.away = True


def service(sink: LeavingSink) -> Bus:
    router = Router("accounts")

    @router.command
    async def open_account(command: Open, accounts: Repository[Account]) -> None:
        account = Account(command.account_id)
        account.record(Opened(owner="Ada"))
        accounts.add(account)

    rows: Projection[Any] = Projection("rows", of=[Account], sink=sink)
    documents = Projection("documents", of=[Account], view=Owner)

    @rows.on(Opened)
    def in_rows(event: Opened) -> Upsert:
        return Upsert(owner=event.owner)

    @documents.on(Opened)
    def in_documents(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    settings = Settings.in_memory()
    return Bus("bank", routers=[router], projections=[rows, documents], settings=settings)


async def test_the_status_of_all_is_told_while_one_store_is_away() -> None:
    sink = LeavingSink()
    async with service(sink) as bus:
        async with Worker(bus):
            await until(lambda: are_read(bus), "both to be read")
        await bus.execute(Open(account_id="a1"))
        sink.leave()
        rows, documents = await Projections(bus).status()
    assert (rows.projection, rows.lag, rows.away) == ("rows", None, WHY)
    assert documents.lag is not None
    assert (documents.lag.events, documents.away) == (1, "")


async def are_read(bus: Bus) -> bool:
    return [one.state for one in await Projections(bus).status()] == ["read", "read"]
