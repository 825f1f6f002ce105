"""The service whose growth is measured: accounts, in as many read collections and queues as asked.

`Open` makes a new stream; `Deposit` loads an account from the log, or makes it, and then decides.
"""

import random
import string
from typing import Any

from pydantic import BaseModel, create_model

from bus import Aggregate, Bus, Command, Event, Projection, Repository, Router, Settings, Update

# Each note is another piece of it: the database shall not compress what a service's data would not.
_TEXT = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=1_000_000))
REST = 60
"""The bytes of an event's data beside its note, roughly."""


class Open(Command):
    account_id: str
    note: str


class Deposit(Command):
    account_id: str
    note: str


class Opened(Event):
    account_id: str
    owner: str
    note: str


class Deposited(Event):
    account_id: str
    owner: str
    note: str


class Account(Aggregate, snapshot_every=50):
    def apply(self, event: Event) -> None:
        match event:
            case Opened() | Deposited():
                pass


class AccountView(BaseModel):
    owner: str
    note: str


def note(payload: int) -> str:
    """Text that makes an event's data of about so many bytes."""
    size = max(payload - REST, 1)
    start = random.randrange(len(_TEXT) - size)
    return _TEXT[start : start + size]


def projections(subscriptions: int, partitions: int) -> list[Projection[Any]]:
    """`views`, `views2`, `views3` ..., all of the same events."""
    found: list[Projection[Any]] = []
    for number in range(1, subscriptions + 1):
        view = create_model(f"AccountView{number}", __base__=AccountView)
        one: Projection[Any] = Projection(
            name_of(number), of=[Account], view=view, partitions=partitions
        )
        one.on(Opened, Deposited)(_seen)
        found.append(one)
    return found


def name_of(number: int) -> str:
    return "views" if number == 1 else f"views{number}"


def build(service: str, *, subscriptions: int = 1, partitions: int = 1, client: Any = None) -> Bus:
    router = Router("accounts")

    @router.command
    async def open_account(command: Open, repository: Repository[Account]) -> None:
        account = Account(command.account_id)
        account.record(Opened(account_id=command.account_id, owner="Ada", note=command.note))
        repository.add(account)

    @router.command
    async def deposit(command: Deposit, repository: Repository[Account]) -> None:
        account = await repository.find(command.account_id)
        if account is None:
            account = Account(command.account_id)
            repository.add(account)
        account.record(Deposited(account_id=command.account_id, owner="Ada", note=command.note))

    made = projections(subscriptions, partitions)
    return Bus(service, routers=[router], projections=made, settings=Settings(), client=client)


def _seen(event: Opened | Deposited) -> Update:
    return {"$set": {"owner": event.owner, "note": event.note}}
