"""Events that go elsewhere: projections with a sink."""

from typing import Any

from bus import Projection
from bus.stores.sink import Upsert
from bus.stores.sinks.memory import MemorySink
from bus.testing import given
from tools.errors.bank import Account, AccountOpened, BalanceView
from tools.errors.entries import Section

elsewhere = Section(
    "Projections kept elsewhere",
    "Told where the projection is declared, before anything is connected; what a handler returns "
    "parks its stream.",
)
SECTIONS = [elsewhere]

URL = "kafka://localhost:9092"


@elsewhere("ConfigurationError: sink='kafka://localhost:9092' is no sink")
def a_sink_that_is_a_url() -> None:
    Projection("sent", of=[Account], sink=URL)  # type: ignore[arg-type]


@elsewhere("ConfigurationError: view= is of MongoDB's documents, and it has a sink")
def a_view_beside_a_sink() -> None:
    Projection("rows", of=[Account], view=BalanceView, sink=MemorySink())


@elsewhere("ConfigurationError: is async, and a projection with a sink decides by the event alone")
def an_async_handler_of_a_sink() -> None:
    rows: Projection[Any] = Projection("rows", of=[Account], sink=MemorySink())

    @rows.on(AccountOpened)
    async def opened(event: AccountOpened) -> Upsert:
        return Upsert(owner=event.owner)


@elsewhere("ConfigurationError: for MemorySink it returns Upsert, Increment, Remove or None")
def a_handler_that_returns_an_update() -> None:
    rows: Projection[Any] = Projection("rows", of=[Account], sink=MemorySink())

    @rows.on(AccountOpened)
    def opened(event: AccountOpened) -> str:
        return event.owner


@elsewhere("ConfigurationError: Projection 'rows' has a sink, and no view")
def the_view_of_a_sink() -> None:
    rows: Projection[Any] = Projection("rows", of=[Account], sink=MemorySink())
    given(Account, "a1", AccountOpened(owner="Ada")).project(rows)
