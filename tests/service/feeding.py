"""A service that is fed with the bank's events: what was paid into each account."""

from typing import Any

from pydantic import BaseModel

from bus import Bus, Documents, Event, NotBuilt, Projection, Query, Router, Settings, Update
from bus.transports.feed import Feed


class Opened(Event):
    owner: str


class Paid(Event):
    amount: int


class Account:
    """The bank's."""

    category = "account"


class Deposits(BaseModel):
    id: str
    owner: str = ""
    amounts: list[int] = []


class GetDeposits(Query[list[Deposits]]):
    pass


class Noted(list[int]):
    """The amounts that an event handler noted."""


def reports(settings: Settings, name: str, feed: Feed, noted: Noted | None = None) -> Bus:
    deposits = Projection("deposits", of=[Account], view=Deposits)

    @deposits.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    @deposits.on(Paid)
    def paid(event: Paid) -> Update:
        return {"$push": {"amounts": event.amount}}

    queries = Router("queries")

    @queries.query
    async def all_deposits(query: GetDeposits, found: Documents[Deposits]) -> list[Deposits]:
        return await found.find({}, sort=[("_id", 1)])

    routers = [queries]
    if noted is not None:
        notes = Router("notes")

        @notes.event
        async def note(event: Paid, noted: Noted) -> None:
            noted.append(event.amount)

        routers.append(notes)
    return Bus(
        name,
        routers=routers,
        projections=[deposits],
        settings=settings,
        foreign={"account": feed},
        provide={} if noted is None else {Noted: noted},
    )


async def folded(bank: Bus) -> list[dict[str, Any]]:
    """What the log of the bank makes of each account."""
    found: dict[str, dict[str, Any]] = {}
    commits = [commit async for commit in bank.runtime.event_log.scan(["account"])]
    for commit in sorted(commits, key=lambda one: (one.stream, one.first)):
        key = commit.stream.removeprefix("account-")
        account = found.setdefault(key, {"id": key, "owner": "", "amounts": []})
        for event in commit.events:
            if "owner" in event.data:
                account["owner"] = event.data["owner"]
            else:
                account["amounts"].append(event.data["amount"])
    return [found[key] for key in sorted(found)]


async def are_as_folded(fed: Bus, bank: Bus) -> bool:
    """Whether a service's documents are what the log of the bank makes of them."""
    try:
        documents = [one.model_dump() for one in await fed.query(GetDeposits())]
    except NotBuilt:
        return False
    return documents == await folded(bank)
