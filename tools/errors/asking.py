"""Reading: queries, documents, and receipts that are waited for."""

import uuid
from datetime import datetime

from bus import Bus, Documents, Projection, Query, Router, Settings, Update, Worker
from tools.errors.bank import (
    Account,
    AccountOpened,
    BalanceView,
    GetBalance,
    OpenAccount,
    accounts,
    balances,
)
from tools.errors.entries import Section
from tools.errors.places import on_plain_files

reading = Section(
    "Reading",
    "Told by `query`, `watch`, or the methods of `Documents`; `documents` is what a handler "
    "gets for `documents: Documents[BalanceView]`.",
)
SECTIONS = [reading]


@reading("NoHandler: nobody handles the query ListAccounts")
async def a_query_that_nobody_handles(bus: Bus) -> None:
    class ListAccounts(Query[list[BalanceView]]): ...

    await bus.query(ListAccounts())


@reading("NotCaughtUp: projection 'balances' has not caught up within 0.1 s: version 1 of")
async def a_projection_that_is_behind(bus: Bus) -> None:
    receipt = await bus.execute(OpenAccount(account_id="a1"))
    await bus.query(GetBalance(account_id="a1"), after=receipt, timeout=0.1)


@reading("ConfigurationError: query(): timeout=None: give seconds, 0 or more")
async def a_wait_without_an_end(bus: Bus) -> None:
    receipt = await bus.execute(OpenAccount(account_id="a1"))
    await bus.query(
        GetBalance(account_id="a1"),
        after=receipt,
        timeout=None,  # type: ignore[arg-type]
    )


@reading(
    "ConfigurationError: Now cannot be watched: its handler reads no projection, so that nothing"
)
async def a_query_that_cannot_be_watched() -> None:
    class Now(Query[str]): ...

    clock = Router("clock")

    @clock.query
    async def now(query: Now) -> str:
        return "12:00"

    async with Bus("bank", routers=[clock], settings=Settings.in_memory()) as bus:
        bus.watch(Now())


@reading("ConfigurationError: projection 'balances': watch() needs collections that are Watchable")
async def a_place_for_documents_that_tells_of_no_changes() -> None:
    bank = Bus(
        "bank",
        routers=[accounts],
        projections=[balances],
        settings=Settings.in_memory(),
        backend=on_plain_files,
    )
    async with bank as bus:
        bus.watch(GetBalance(account_id="a1"))


@reading("ProjectionError: a document's key must be text, and this one is of type UUID")
async def a_key_that_is_a_uuid(documents: Documents[BalanceView]) -> None:
    """A key that is a UUID"""
    await documents.get(uuid.uuid4())  # type: ignore[arg-type]


@reading("ProjectionError: documents of BalanceView can be changed by their projection's handlers")
async def documents_changed_outside_of_their_projection(documents: Documents[BalanceView]) -> None:
    await documents.update("a1", {"$set": {"balance": 1_000_000}})


@reading("ProjectionError: a filter runs no script in the database, and $where would")
async def a_filter_that_runs_a_script(documents: Documents[BalanceView]) -> None:
    await documents.find({"$where": "this.balance > 100"})


@reading("ProjectionError: Documents[BalanceView]: the filter has $more, which is none of")
async def an_unknown_operator_in_a_filter(documents: Documents[BalanceView]) -> None:
    await documents.find({"balance": {"$more": 100}})


@reading(
    "ProjectionError: the document 'a1' cannot be read as BalanceView: balance: Field required"
)
async def a_document_that_lacks_what_the_view_needs() -> None:
    owners = Projection("balances", of=[Account], view=BalanceView)

    @owners.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"owner": event.owner}}

    bus = Bus("bank", routers=[accounts], projections=[owners], settings=Settings.in_memory())
    async with bus, Worker(bus):
        receipt = await bus.execute(OpenAccount(account_id="a1"))
        await bus.query(GetBalance(account_id="a1"), after=receipt)


@reading("ProjectionError: the filter, at 'opened.$gte': the value is a datetime without a zone")
async def a_filter_by_a_time_without_a_zone(documents: Documents[BalanceView]) -> None:
    await documents.find({"opened": {"$gte": datetime(2026, 1, 1)}})
