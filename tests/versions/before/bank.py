import asyncio

from pydantic import BaseModel

from bus import Aggregate, Bus, Command, Documents, Event, Projection, Query
from bus import Repository, Router, Settings, Update, Worker


class OpenAccount(Command):
    account_id: str
    owner: str


class AccountOpened(Event):
    owner: str


class Account(Aggregate, events=[AccountOpened]): ...


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


@balances.on(AccountOpened)
def opened(event: AccountOpened) -> Update:
    return {"$set": {"owner": event.owner, "balance": 0}}


@accounts.query
async def get_balance(query: GetBalance, documents: Documents[BalanceView]) -> BalanceView | None:
    return await documents.get(query.account_id)


def build(settings: Settings) -> Bus:
    return Bus("bank", routers=[accounts], projections=[balances], settings=settings)


async def main() -> None:
    async with build(Settings()) as bus, Worker(bus):
        receipt = await bus.execute(OpenAccount(account_id="a1", owner="Ada"), id="open-a1")
        print(await bus.query(GetBalance(account_id="a1"), after=receipt))


if __name__ == "__main__":
    asyncio.run(main())
