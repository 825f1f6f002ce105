from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Outbox,
    Projection,
    Query,
    Repository,
    Router,
    Settings,
    Update,
)


class OpenAccount(Command):
    account_id: str
    owner: str = "Ada"


class Deposit(Command):
    account_id: str
    amount: int


class AccountOpened(Event):
    owner: str


class Deposited(Event):
    amount: int


class Account(Aggregate):
    balance: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case AccountOpened():
                pass
            case Deposited():
                self.balance += event.amount


class BalanceView(BaseModel):
    owner: str
    balance: int


class GetBalance(Query[BalanceView | None]):
    account_id: str


accounts = Router("accounts")
balances = Projection("balances", of=[Account], view=BalanceView)


@accounts.command
async def open_account(command: OpenAccount, repository: Repository[Account]) -> None:
    account = Account(command.account_id)
    account.record(AccountOpened(owner=command.owner))
    repository.add(account)


@accounts.command
async def deposit(command: Deposit, repository: Repository[Account], outbox: Outbox) -> int:
    account = await repository.get(command.account_id)
    account.record(Deposited(amount=command.amount))
    return account.balance


@balances.on(AccountOpened)
def opened(event: AccountOpened) -> Update:
    return {"$set": {"owner": event.owner, "balance": 0}}


@balances.on(Deposited)
def deposited(event: Deposited) -> Update:
    return {"$inc": {"balance": event.amount}}


@accounts.query
async def get_balance(query: GetBalance, documents: Documents[BalanceView]) -> BalanceView | None:
    return await documents.get(query.account_id)


def build(settings: Settings) -> Bus:
    return Bus("bank", routers=[accounts], projections=[balances], settings=settings)
