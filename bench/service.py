"""The service that our side runs wherever the benchmark asks for no other: accounts with a note.

One command makes one event of about 500 bytes; one projection keeps one document for each account.
"""

from pydantic import BaseModel

from bus import Aggregate, Bus, Command, Event, Projection, Repository, Router, Settings, Update

NOTE = "x" * 400


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
    account.record(
        AccountOpened(account_id=command.account_id, owner=command.owner, note=command.note)
    )
    repository.add(account)


@views.on(AccountOpened)
def opened(event: AccountOpened) -> Update:
    return {"$set": {"owner": event.owner, "note": event.note}}


def build(service: str) -> Bus:
    return Bus(service, routers=[accounts], projections=[views], settings=Settings())
