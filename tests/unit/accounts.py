"""Accounts of a bank, as small as an aggregate, its events and its view can be."""

from pydantic import BaseModel

from bus import Aggregate, Command, Event, Query, Repository


class Open(Command):
    account_id: str


class Opened(Event):
    owner: str


class Account(Aggregate):
    owner: str = ""

    def apply(self, event: Event) -> None:
        match event:
            case Opened():
                self.owner = event.owner


class View(BaseModel):
    owner: str


class Get(Query[View | None]):
    account_id: str


async def open_account(command: Open, accounts: Repository[Account]) -> None:
    """A handler of commands, for routers of the tests' own."""
    account = Account(command.account_id)
    account.record(Opened(owner="Ada"))
    accounts.add(account)
