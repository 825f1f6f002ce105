"""Which queues a worker takes."""

import pytest
from pydantic import BaseModel

from bus import Aggregate, Bus, ConfigurationError, Event, Projection, Settings, Update, Worker
from tests.waiting import until


class Opened(Event):
    owner: str


class Account(Aggregate, events=[Opened]): ...


class View(BaseModel):
    owner: str


class OwnerView(BaseModel):
    owner: str


def bank() -> Bus:
    balances = Projection("balances", of=[Account], view=View, partitions=2)
    owners = Projection("owners", of=[Account], view=OwnerView)

    @balances.on(Opened)
    @owners.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    return Bus("bank", projections=[balances, owners], settings=Settings.in_memory())


async def queues(*only: str) -> list[str]:
    """Those that a worker consumes, without the one of dead letters."""
    async with bank() as bus, Worker(bus, only=only):
        transport = bus.parts.transport

        async def consuming() -> bool:
            return await transport.consumers("bank.dead") == 1  # the last to be opened

        await until(consuming, "the worker consumes")
        names = [queue.name for one in bus.parts.subscriptions for queue in one.queues]
        return [name for name in names if await transport.consumers(name)]


async def test_a_worker_takes_all_queues_where_nothing_is_named() -> None:
    assert await queues() == [
        "bank.commands",
        "bank.balances.0of2",
        "bank.balances.1of2",
        "bank.owners",
    ]


async def test_a_worker_takes_the_subscriptions_and_the_partitions_that_are_named() -> None:
    assert await queues("balances") == ["bank.balances.0of2", "bank.balances.1of2"]
    assert await queues("balances.1of2") == ["bank.balances.1of2"]
    assert await queues("owners", "balances.0of2") == ["bank.balances.0of2", "bank.owners"]


@pytest.mark.parametrize("unknown", ["balances.2of2", "bank.balances.0of2", "0of2", ""])
async def test_a_worker_refuses_what_there_is_none_of(unknown: str) -> None:
    with pytest.raises(ConfigurationError, match="has no subscription"):
        Worker(bank(), only=["owners", unknown])
