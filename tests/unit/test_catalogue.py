"""The catalogue: how a projection's collections begin, and who may change them."""

from datetime import timedelta

import pytest
from pydantic import BaseModel

from bus import Aggregate, Event, NotBuilt, Projection, Update
from bus.common import clock
from bus.errors import ConfigurationError
from bus.rebuild.catalogue import Catalogue
from bus.rebuild.generations import Generation, Lineage
from bus.stores.control import Note
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog


class Opened(Event):
    bank: str


class Account(Aggregate, events=[Opened]): ...


class View(BaseModel):
    bank: str


def balances(*, version: int = 1, partitions: int = 1, by_bank: bool = False) -> Projection[View]:
    projection = Projection(
        "balances", of=[Account], view=View, version=version, partitions=partitions
    )

    @projection.on(Opened, key=(lambda event: event.bank) if by_bank else None)
    def opened(event: Opened) -> Update:
        return {"$set": {"bank": event.bank}}

    return projection


class Stores:
    """What all processes of a service share."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.collections, self.control = MemoryCollections(), MemoryControl()

    async def opened(self, projection: Projection[View]) -> Lineage:
        """The lineage as a process sees it that starts with this declaration."""
        catalogue = Catalogue([projection], self.log, self.collections, self.control)
        await catalogue.open()
        return await catalogue.lineage(projection)

    async def happened(self) -> None:
        time = clock.now() - timedelta(days=1)
        event = Recorded("Opened", 1, {"bank": "b"})
        await self.log.append([Commit("c", "account-a", "account", 1, (event,), time, "c")])


FIRST = Generation("balances__v1", 1, 1, versions_in_documents=True)


async def test_without_a_history_there_is_nothing_to_build() -> None:
    assert await Stores().opened(balances()) == Lineage("balances", (FIRST,), "balances__v1")


async def test_with_a_history_it_is_built_and_not_read_before() -> None:
    stores = Stores()
    await stores.happened()
    assert await stores.opened(balances()) == Lineage("balances", (FIRST,), building="balances__v1")
    catalogue = Catalogue(
        [projection := balances()], stores.log, stores.collections, stores.control
    )
    await catalogue.open()
    with pytest.raises(NotBuilt, match="is being built from the log"):
        await catalogue.target(projection)


async def test_a_raised_version_is_built_beside_what_is_read() -> None:
    stores = Stores()
    await stores.opened(balances())
    second = Generation("balances__v2", 2, 1, versions_in_documents=True)
    lineage = await stores.opened(balances(version=2))
    assert lineage == Lineage("balances", (FIRST, second), "balances__v1", building="balances__v2")
    assert await stores.opened(balances()) == lineage


async def test_what_was_read_before_there_were_lineages_is_read() -> None:
    stores = Stores()
    await stores.happened()
    await stores.control.write_note(Note("balances", {"versions_in_documents": True}))
    assert (await stores.opened(balances())).active == "balances"


async def test_where_versions_are_kept_cannot_change_within_a_version() -> None:
    stores = Stores()
    await stores.opened(balances())
    with pytest.raises(ConfigurationError, match="give it another version="):
        await stores.opened(balances(by_bank=True))
    assert (await stores.opened(balances(by_bank=True, version=2))).building == "balances__v2"


async def test_other_partitions_are_other_queues_of_the_same_collection() -> None:
    stores = Stores()
    await stores.opened(balances())
    (divided,) = (await stores.opened(balances(partitions=4))).generations
    assert divided == FIRST._replace(partitions=4, former=(1,))
    (again,) = (await stores.opened(balances())).generations
    assert again == FIRST._replace(former=(4,))


async def test_a_name_that_looks_like_a_collections_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="give the number as version="):
        Projection("balances__v2", of=[Account], view=View)
