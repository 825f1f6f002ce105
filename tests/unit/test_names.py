"""Names that would be shared by accident are refused, with both owners."""

import pytest
from pydantic import BaseModel

from bus import Aggregate, Bus, Command, ConfigurationError, Event, Projection, Repository, Router
from bus.continuity.owner import check_owner, hand_over
from bus.settings import Settings
from bus.stores.memory import MemoryControl
from tests.service.shared import shared_settings


class Opened(Event):
    pass


class Closing(Command, name="Opened"):
    pass


class Account(Aggregate):
    def apply(self, event: Event) -> None:
        match event:
            case Opened():
                pass


class OtherAccount(Aggregate, category="account"):
    pass


class View(BaseModel):
    id: str


def bus(
    service: str, *aggregates: type[Aggregate], router: str = "accounts", name: str = "views"
) -> Bus:
    views = Projection(name, of=aggregates or [Account], view=View)
    return Bus(
        service, routers=[Router(router)], projections=[views], settings=Settings.in_memory()
    )


def test_a_service_named_as_a_category_of_its_own_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"test_names\.Account has the category 'account'"):
        bus("account")


def test_two_aggregates_of_one_category_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"\.Account and .*\.OtherAccount both have"):
        bus("bank", Account, OtherAccount)


def test_a_router_named_as_a_collection_of_a_projection_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the collections of projection 'views'"):
        bus("bank", router="views__v2")
    bus("bank", router="others__v2")


def test_a_projection_named_as_a_collection_of_the_bus_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is the bus's own"):
        bus("bank", name="commits")


def test_a_command_and_a_recorded_event_of_one_wire_name_are_refused() -> None:
    accounts = Router("accounts")

    @accounts.command
    async def close(command: Closing, repository: Repository[Account]) -> None:
        pass

    with pytest.raises(ConfigurationError, match="both travel as 'Opened'"):
        Bus("bank", routers=[accounts], settings=Settings.in_memory())


async def test_two_services_on_one_database_are_refused_with_both_names() -> None:
    ground = shared_settings()
    async with Bus("bank", settings=ground):
        with pytest.raises(ConfigurationError, match=r"Bus\('shop'\): .* the service 'bank'"):
            async with Bus("shop", settings=ground):
                pass
    async with Bus("bank", settings=ground):
        pass


async def test_a_renamed_service_gets_its_database_by_a_claim() -> None:
    ground = shared_settings()
    async with Bus("bank", settings=ground):
        pass
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        await Bus("savings", settings=ground).claim("shop")
    await Bus("savings", settings=ground).claim("bank")
    async with Bus("savings", settings=ground):
        with pytest.raises(ConfigurationError, match="that of the service 'savings'"):
            async with Bus("bank", settings=ground):
                pass


async def test_who_only_looks_claims_nothing() -> None:
    control = MemoryControl()
    await check_owner(control, "bank", claims=False)
    await check_owner(control, "shop", claims=True)
    with pytest.raises(ConfigurationError):
        await check_owner(control, "bank", claims=False)
    await hand_over(control, "bank", "shop")
    await check_owner(control, "bank", claims=False)
