"""A service in which a message, a stream or a handler can be poisoned, and mended."""

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Event,
    Projection,
    Repository,
    RetryPolicy,
    Router,
    Settings,
    Update,
)


class Deposit(Command):
    account_id: str
    amount: int


class Deposited(Event):
    account_id: str
    amount: int


class Account(Aggregate, events=[Deposited]): ...


class BalanceView(BaseModel):
    balance: int = 0


class Moods:
    """What fails just now; `handled` counts what the event handler has done."""

    def __init__(self) -> None:
        self.broken = True
        self.handled: set[str] = set()


def build(settings: Settings, service: str, moods: Moods) -> Bus:
    """Streams named "poison-stream..." cannot be projected, "poison-handler..." not be handled."""
    accounts = Router("accounts")
    mails = Router("mails", retry=RetryPolicy(tries=3, delays=(1,)))
    balances = Projection("balances", of=[Account], view=BalanceView)

    @accounts.command
    async def deposit(command: Deposit, repository: Repository[Account]) -> None:
        account = await repository.find(command.account_id) or Account(command.account_id)
        if not account.version:
            repository.add(account)
        account.record(Deposited(account_id=command.account_id, amount=command.amount))

    @mails.event
    async def mail(event: Deposited) -> None:
        if moods.broken and event.account_id.startswith("poison-handler"):
            raise RuntimeError("the mail server says no")
        moods.handled.add(event.account_id)

    @balances.on(Deposited)
    def deposited(event: Deposited) -> Update:
        if moods.broken and event.account_id.startswith("poison-stream"):
            raise ValueError("cannot be projected")
        return {"$inc": {"balance": event.amount}}

    return Bus(service, routers=[accounts, mails], projections=[balances], settings=settings)
