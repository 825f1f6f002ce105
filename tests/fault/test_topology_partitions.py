"""Another number of partitions is planned, made by whoever may declare, and loses no event."""

from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from bus import Bus, Projection, Settings, Update, Worker
from bus.delivery import projection_runner
from bus.operate.topology.apply import Applying
from bus.operate.topology.plan import Plan, Planning
from bus.operate.topology.prune import Pruning
from bus.read.projection import Projection as AnyProjection
from tests.fault.applying import publishing
from tests.service.wallet import Diary, Paid, Wallet
from tests.service.wallet import build as wallet
from tests.waiting import until
from tools.services import RabbitMQNode


class Sum(BaseModel):
    id: str
    payments: int = 0


def sums(partitions: int) -> AnyProjection[Any]:
    projection = Projection("sums", of=[Wallet], view=Sum, partitions=partitions)

    @projection.on(Paid)
    def paid(event: Paid) -> Update:
        return {"$inc": {"payments": 1}}

    return projection


def build(settings: Settings, service: str, partitions: int) -> Bus:
    return wallet(settings, Diary(), service, also=[sums(partitions)])


@pytest.fixture
def settings(real_settings: Settings, broker: RabbitMQNode) -> Settings:
    return real_settings.model_copy(update={"amqp_url": broker.url})


async def counted(bus: Bus) -> dict[str, int]:
    """The documents of the projection."""
    projection = next(each for each in bus.runtime.projections if each.name == "sums")
    documents = bus.runtime.collections.documents(await bus.runtime.catalogue.target(projection))
    return {row["_id"]: row["payments"] for row in await documents.find({})}


async def has_all(bus: Bus, wallets: int) -> bool:
    return await counted(bus) == {f"w{number}": 1 for number in range(wallets)}


def lines(plan: Plan) -> list[tuple[str, str, str]]:
    return [change[:3] for change in plan.changes if change.sign not in "?!"]


async def planned(settings: Settings, service: str, partitions: int) -> Plan:
    async with build(settings, service, partitions).looking() as bus:
        return await Planning(bus).plan()


@pytest.mark.parametrize(("was", "now"), [(1, 3), (3, 2)])
async def test_events_that_come_in_meanwhile_are_all_in_the_documents(
    was: int, now: int, settings: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release before goes on publishing; the new one's worker may declare nothing."""
    monkeypatch.setattr(projection_runner, "TIDY_EVERY", 0.5)
    names = {count: queues(unique, count) for count in (was, now)}
    async with build(settings, unique, was) as api, publishing(api) as publisher:
        async with Worker(api):
            await publisher.go_on(20)
            await until(lambda: has_some(api), "the release before projects")
        await publisher.go_on(10)  # which wait in the former queues
        before = await planned(settings, unique, now)
        assert lines(before) == [
            *(("+", "queue", name) for name in names[now]),
            ("~", "partitions", f"{unique}.sums"),
        ]
        async with build(settings, unique, now).looking() as looking:
            await Applying(looking).apply()
        await publisher.go_on(10)
        assert not (await planned(settings, unique, now)).differs()
        never = settings.model_copy(update={"declare": "never", "sweep_every": 2.0})
        async with build(never, unique, now) as bus, Worker(bus):
            await publisher.go_on(10)
            await publisher.rest()
            await until(partial(has_all, bus, publisher.paid), "all are projected", within=60)
            former = [("-", "queue", name) for name in names[was]]
            left = await planned(settings, unique, now)
            assert set(lines(left)) <= {*former}
            assert not left.differs()
            async with build(settings, unique, now).looking() as looking:
                with pytest.raises(Exception, match="no queue is left"):
                    await Pruning(looking).prunable()
            await until(partial(is_clean, settings, unique, now), "a worker deletes them")


async def has_some(bus: Bus) -> bool:
    return bool(await counted(bus))


async def is_clean(settings: Settings, service: str, partitions: int) -> bool:
    return not lines(await planned(settings, service, partitions))


def queues(service: str, partitions: int) -> list[str]:
    if partitions == 1:
        return [f"{service}.sums"]
    return [f"{service}.sums.{partition}of{partitions}" for partition in range(partitions)]
