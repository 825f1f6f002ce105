"""A bank whose events go elsewhere, and in which order a reader may find them there."""

from collections.abc import Sequence
from typing import Any

from bus import Aggregate, Bus, Command, Event, Projection, Repository, Router, Settings
from bus.stores.sinks.sent import EventSink

Place = tuple[str, int]


class Opened(Event):
    owner: str


class Paid(Event):
    amount: int
    note: str = ""


class Account(Aggregate, events=[Opened, Paid]):
    def apply(self, event: Event) -> None:
        """It decides nothing by what happened."""


class Pay(Command):
    account_id: str
    amount: int
    note: str = ""


def bank(settings: Settings, name: str, sink: EventSink | None) -> Bus:
    router = Router("accounts")

    @router.command
    async def pay(command: Pay, accounts: Repository[Account]) -> None:
        account = await accounts.find(command.account_id)
        if account is None:
            account = Account(command.account_id)
            account.record(Opened(owner="Ada"))
            accounts.add(account)
        account.record(Paid(amount=command.amount, note=command.note))

    sent: list[Projection[Any]] = []
    if sink is not None:
        sent.append(Projection("sent", of=[Account], sink=sink))
    return Bus(name, routers=[router], projections=sent, settings=settings)


def firsts(places: Sequence[Place]) -> list[Place]:
    """What a reader that follows versions takes: the first of each."""
    return list(dict.fromkeys(places))


def in_order(places: Sequence[Place]) -> bool:
    """Whether each version first came after the one before it."""
    reached: dict[str, int] = {}
    for stream, version in firsts(places):
        if version != reached.get(stream, 0) + 1:
            return False
        reached[stream] = version
    return True


async def places_in_log(bus: Bus) -> set[Place]:
    """Every event that the service's log holds."""
    commits = [commit async for commit in bus.runtime.event_log.scan(["account"])]
    return {(c.stream, c.first + n) for c in commits for n in range(len(c.events))}
