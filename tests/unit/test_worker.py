"""Which queues a worker takes, and when it sweeps."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    ConfigurationError,
    Event,
    Projection,
    Settings,
    Update,
    Worker,
    ambient,
)
from bus.codec import record
from bus.delivery import worker
from bus.stores.base import Commit
from bus.tasks import end
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


async def test_a_sweep_waits_while_the_queues_have_a_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "TEND_EVERY", 0.001)
    behind, asked = True, 0

    def is_behind() -> bool:
        nonlocal asked
        asked += 1
        return behind

    async with bank() as bus:
        parts = bus.parts
        (_, _, owners) = parts.subscriptions
        assert isinstance(owners.of, Projection)
        target = owners.of.target()
        opened = (record(Opened(owner="Ada")),)
        time = ambient.now() - timedelta(minutes=1)
        await parts.event_log.append([Commit("c", "account-a", "account", 1, opened, time, "c")])
        sweeping = asyncio.create_task(worker._look_after(parts, owners.of, is_behind))

        async def asked_often() -> bool:
            return asked > 20

        async def swept() -> bool:
            return await parts.read_store.swept(target) is not None

        await until(asked_often, "it asks for the backlog")
        assert not await swept()
        behind = False
        await until(swept, "it sweeps")
        assert await parts.read_store.versions(target, ["account-a"]) == {"account-a": 1}
        await end([sweeping])


async def test_a_worker_is_behind_until_it_has_taken_less_than_a_batch() -> None:
    async with bank() as bus, Worker(bus, only=["owners"]) as running:
        (owners,) = running._chosen
        is_behind = running._is_behind(owners)
        assert is_behind()

        async def caught_up() -> bool:
            return not is_behind()

        await until(caught_up, "an empty queue is no backlog")
