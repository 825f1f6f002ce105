"""Collections in memory where mongomock is not installed."""

import sys

import pytest

from bus import ConfigurationError, Documents, ProjectionError, Query, Router
from bus.testing import given, given_documents, memory_world
from handlers.app import build
from tests.fault import hirings
from tests.service.wallet import Paid, Wallet, WalletView, ledgers

router = Router("alone")


class Named(Query[int]):
    start: str


@router.query
async def named(query: Named, wallets: Documents[WalletView]) -> int:
    return await wallets.count({"_id": {"$regex": f"^{query.start}"}})


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "mongomock"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mongomock", None)


async def test_the_reference_service_needs_nothing_more() -> None:
    async with memory_world(build) as world:
        await hirings.hire(world)
        await world.settle()
        await hirings.check(world)


def test_a_filter_that_goes_beyond_names_the_remedy() -> None:
    there = given_documents({"a": WalletView(id="a")})
    with pytest.raises(ConfigurationError, match=r"filter or sort.*install doubledecker\[memory\]"):
        raise there.when_handled(Named(start="a"), by=named).error or AssertionError


def test_an_update_that_goes_beyond_names_the_remedy() -> None:
    projection = ledgers()
    projection.handlers.clear()

    @projection.on(Paid)
    def paid(event: Paid) -> dict[str, object]:
        return {"$currentDate": {"paid": True}}

    with pytest.raises(ProjectionError, match=r"update of 'a'.*install doubledecker\[memory\]"):
        given(Wallet, "a", Paid(amount=1)).project(projection)
