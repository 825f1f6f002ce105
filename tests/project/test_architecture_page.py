"""ARCHITECTURE.md: its files exist, its floors are those of the imports, and a message passes the
stations that it tells of, in their order."""

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Projection,
    Query,
    Repository,
    Router,
    Settings,
    Update,
    Worker,
)
from tests.project.test_architecture import FLOORS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
STATION = re.compile(r"^\d+\. `(bus/[\w/]+\.py)` `([\w.]+)`", re.MULTILINE)
Station = tuple[str, str]


class OpenAccount(Command):
    account_id: str


class AccountOpened(Event):
    pass


class Account(Aggregate, events=[AccountOpened]):
    def apply(self, event: Event) -> None:
        """Nothing hangs on it."""


class AccountView(BaseModel):
    id: str
    is_open: bool


class GetAccount(Query[AccountView | None]):
    account_id: str


def bank() -> Bus:
    router = Router("accounts")
    accounts_read = Projection("open_accounts", of=[Account], view=AccountView)

    @router.command
    async def open_account(command: OpenAccount, accounts: Repository[Account]) -> None:
        account = Account(command.account_id)
        accounts.add(account)
        account.record(AccountOpened())

    @router.query
    async def get(query: GetAccount, documents: Documents[AccountView]) -> AccountView | None:
        return await documents.get(query.account_id)

    @accounts_read.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"is_open": True}}

    settings = Settings.in_memory()
    return Bus("bank", routers=[router], projections=[accounts_read], settings=settings)


@contextmanager
def traced() -> Iterator[list[Station]]:
    """The functions of the package in the order in which they are first called."""
    visited: dict[Station, None] = {}
    before = sys.getprofile()

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and "/bus/" in path:
            name = frame.f_code.co_qualname.removesuffix(".<locals>.run")
            visited[f"bus/{path.rpartition('/bus/')[2]}", name] = None

    sys.setprofile(note)
    found: list[Station] = []
    try:
        yield found
    finally:
        sys.setprofile(before)
        found += visited


def stations(heading: str) -> list[Station]:
    return STATION.findall(PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0])


async def test_a_message_passes_the_stations_in_their_order() -> None:
    async with bank() as bus, Worker(bus):
        await asyncio.sleep(0.2)  # first turns of what goes on beside
        with traced() as commanded:
            receipt = await bus.execute(OpenAccount(account_id="a"))
        with traced() as projected:
            found = await bus.query(GetAccount(account_id="a"), after=receipt)
        with traced() as queried:
            assert found == await bus.query(GetAccount(account_id="a"), after=receipt)
    assert found == AccountView(id="a", is_open=True)
    for heading, visited in (
        ("A command's way", commanded),
        ("An event's way", projected),
        ("A query's way", queried),
    ):
        told = stations(heading)
        assert len(told) > 5, heading
        assert told == [one for one in visited if one in told], heading


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:bus|tests)/[\w/]+\.py)`", PAGE))))
def test_a_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).is_file()


def test_the_floors_are_those_of_the_imports() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", PAGE, re.MULTILINE)
    told = {int(floor): set(re.findall(r"`([\w.]+)`", rooms)) for floor, rooms in rows}
    assert told == {at: rooms - {"__init__"} for at, rooms in enumerate(FLOORS, 1)}
