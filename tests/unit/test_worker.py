"""Which queues a worker takes, and when it sweeps."""

import asyncio
import time
from datetime import timedelta
from typing import TypeVar

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    Event,
    Projection,
    Repository,
    Router,
    Settings,
    Update,
    Worker,
)
from bus.assembly.runtime import Runtime
from bus.codec import record
from bus.common import clock
from bus.common.tasks import end
from bus.delivery import projection_runner
from bus.delivery.consumer import Consumers, QueueConsumer
from bus.delivery.projection_runner import CollectionFeed
from bus.delivery.trust import Trust
from bus.failures.give_up import GiveUp
from bus.lifecycle.duty import Supervisor
from bus.stores.collections import Target
from bus.stores.event_log import Commit
from bus.transports.base import Transport
from tests.waiting import until

Feed = TypeVar("Feed", bound=CollectionFeed)


class Open(Command):
    owner: str


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

    router = Router("accounts")

    @router.command
    async def open_account(command: Open, accounts: Repository[Account]) -> None:
        account = Account("a")
        account.record(Opened(owner=command.owner))
        accounts.add(account)

    settings = Settings.in_memory()
    return Bus("bank", routers=[router], projections=[balances, owners], settings=settings)


async def queues(*only: str) -> list[str]:
    """Those that a worker consumes, without the one of dead letters."""
    async with bank() as bus, Worker(bus, only=only):
        transport = bus.runtime.transport

        async def ready() -> bool:
            return (await bus.health()).ready

        await until(ready, "the worker consumes")
        names = [queue.name for one in bus.runtime.subscriptions for queue in one.queues]
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


class Watched(CollectionFeed):
    """Says what it is told about a backlog, and counts how often it is asked."""

    behind = True
    asked = 0

    async def is_behind(self) -> bool:
        self.asked += 1
        return self.behind


def feeding(kind: type[Feed], runtime: Runtime) -> tuple[Feed, Target]:
    """What keeps `owners` up to date, and where that is."""
    (owners,) = [one.of for one in runtime.declared if one.name == "owners"]
    assert isinstance(owners, Projection)
    (generation,) = runtime.catalogue.known(owners).fed_by(1)
    consumers = Consumers(Supervisor(runtime.checkup, runtime.loops), runtime.transport)
    return kind(
        runtime, owners, consumers, GiveUp(runtime), Trust(runtime), (), generation
    ), owners.target()


def opened(account: str) -> Commit:
    """A commit, of a minute ago."""
    moment = clock.now() - timedelta(minutes=1)
    events = (record(Opened(owner="Ada")),)
    return Commit("c", f"account-{account}", "account", 1, events, moment, "c")


async def test_a_sweep_waits_while_the_queues_have_a_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection_runner, "TEND_EVERY", 0.001)
    async with bank() as bus:
        runtime = bus.runtime
        fed, target = feeding(Watched, runtime)
        await runtime.event_log.append([opened("a")])
        sweeping = asyncio.create_task(fed.look_after())

        async def swept() -> bool:
            return await runtime.control.swept(target) is not None

        await until(lambda: fed.asked > 20, "it asks for the backlog")
        assert not await swept()
        fed.behind = False
        await until(swept, "it sweeps")
        assert await runtime.collections.versions(target, ["account-a"]) == {"account-a": 1}
        await end([sweeping])


async def test_a_worker_is_behind_until_it_has_taken_less_than_a_batch() -> None:
    async with bank() as bus:
        fed, _ = feeding(CollectionFeed, bus.runtime)
        fed.start()
        assert await fed.is_behind()

        async def has_caught_up() -> bool:
            return not await fed.is_behind()

        await until(has_caught_up, "an empty queue is no backlog")
        await fed.stop()


async def test_a_worker_is_behind_while_the_broker_has_what_it_was_not_sent() -> None:
    async with bank() as bus:
        fed, _ = feeding(CollectionFeed, bus.runtime)
        assert not await fed.is_behind()
        await bus.execute(Open(owner="Ada"))
        await until(fed.is_behind, "an event waits in the queue")


async def test_consumers_that_do_not_finish_in_time_are_watched_on_and_may_be_stopped_again() -> (
    None
):
    async with bank() as bus:
        supervisor = Supervisor(bus.runtime.checkup, bus.runtime.loops)
        consumers = Consumers(supervisor, bus.runtime.transport)
        slow = Slow("bank.owners", bus.runtime.transport)
        consumers.start(slow)
        await slow.open()
        await consumers.finish([slow], time.monotonic() + 0.05)
        assert list(consumers) == [slow]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await consumers.finish([slow], time.monotonic() + 60)
        assert list(consumers) == [slow]
        slow.may_end.set()
        await consumers.finish([slow], time.monotonic() + 60)
        assert list(consumers) == []
        await consumers.finish([slow], time.monotonic() + 60)
        await supervisor.leave()
        assert supervisor.unfinished == 0


class Slow(QueueConsumer):
    def __init__(self, queue: str, transport: Transport) -> None:
        super().__init__(queue, transport)
        self.may_end = asyncio.Event()

    async def run(self) -> None:
        await self.may_end.wait()


def test_a_name_that_is_not_in_a_list_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"only= is a list.*write only=\['owners'\]"):
        Worker(bank(), only="owners")
