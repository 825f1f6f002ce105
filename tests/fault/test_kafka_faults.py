"""Events to Kafka, while workers and brokers end: none lost, none out of order, repeats told."""

import asyncio
import os

import pytest

from bus import Settings, Worker
from bus.kafka import KafkaTopic
from tests import killing
from tests.service.sending import Pay, bank, firsts, in_order, places_in_log
from tests.service.topics import place, places_in, records_in
from tests.waiting import until
from tools.services.jars.kafka import KafkaNode


async def killed(when: str, settings: Settings, service: str, url: str) -> None:
    """Runs a process until it kills itself as it sends."""
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
    }
    words = (when, service, service, url)
    await killing.killed("sending_killed_at", *words, environment=environment, within=60)


@pytest.mark.parametrize("when", ["before sending", "after sending", "after noting"])
async def test_a_worker_killed_as_it_sends_loses_nothing_and_repeats_what_can_be_told(
    real_settings: Settings, kafka_server: str, unique: str, when: str
) -> None:
    await killed(when, real_settings, unique, kafka_server)
    sink = KafkaTopic(unique, url=kafka_server, partitions=2)
    async with bank(real_settings, unique, sink) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a0", amount=0))
        wanted = await places_in_log(bus)

        async def are_there() -> bool:
            return set(await places_in(kafka_server, unique)) == wanted

        await until(are_there, "every event of the log")
    records = await records_in(kafka_server, unique)
    places = list(map(place, records))
    assert in_order(places)
    is_repeated = len(places) > len(wanted)
    assert is_repeated == (when == "after sending"), "what was not noted is sent again"
    ids = {(place(record), dict(record.headers)["id"]) for record in records}
    assert len(ids) == len(wanted), "a repeat has the id of the first"


async def test_a_broker_that_is_killed_or_frozen_only_delays(
    real_settings: Settings, kafka_node: KafkaNode, unique: str
) -> None:
    sink = KafkaTopic(unique, url=kafka_node.url, partitions=2)
    async with bank(real_settings, unique, sink) as bus:
        async with Worker(bus):

            async def pay(count: int) -> None:
                for amount in range(count):
                    await bus.execute(Pay(account_id=f"a{amount % 3}", amount=amount))

            async def all_there() -> bool:
                found = set(await places_in(kafka_node.url, unique))
                return found == await places_in_log(bus)

            await pay(10)
            await until(all_there, "the first events")
            kafka_node.kill()
            await pay(10)

            async def is_told() -> bool:
                return any("Kafka" in p.what for p in (await bus.health()).problems)

            await until(is_told, "health to say so", within=60)
            await asyncio.to_thread(kafka_node.start)
            await until(all_there, "what waited", within=90)
            kafka_node.pause()
            await pay(10)
            await until(is_told, "health to say so again", within=90)
            kafka_node.resume()
            await until(all_there, "what waited again", within=90)
        places = await places_in(kafka_node.url, unique)
        assert in_order(places)
        assert len(firsts(places)) == len(await places_in_log(bus))


async def test_while_the_broker_is_away_a_worker_still_leaves(
    real_settings: Settings, kafka_node: KafkaNode, unique: str
) -> None:
    sink = KafkaTopic(unique, url=kafka_node.url, partitions=1)
    settings = real_settings.model_copy(update={"stop_within": 3.0})
    async with bank(settings, unique, sink) as bus:
        async with Worker(bus):
            await bus.execute(Pay(account_id="a", amount=1))
            await until(lambda: places_in(kafka_node.url, unique), "the first events")
            kafka_node.pause()
            await bus.execute(Pay(account_id="a", amount=2))
            queue = f"{unique}.sent"

            async def is_taken() -> bool:
                return not await bus.runtime.transport.depth(queue)

            await until(is_taken, "the worker to send it")
        kafka_node.resume()
        async with Worker(bus):
            await until(lambda: _has(kafka_node.url, unique, 3), "what was left", within=60)


async def _has(url: str, topic: str, count: int) -> bool:
    return len(firsts(await places_in(url, topic))) == count


async def test_two_workers_that_both_send_repeat_and_reorder_nothing_new(
    real_settings: Settings, kafka_server: str, unique: str
) -> None:
    def sink() -> KafkaTopic:
        return KafkaTopic(unique, url=kafka_server, partitions=2)

    async with (
        bank(real_settings, unique, sink()) as one,
        bank(real_settings, unique, sink()) as other,
    ):
        async with Worker(one):
            for amount in range(5):
                await one.execute(Pay(account_id=f"a{amount % 2}", amount=amount))
        # Both have the same streams to send, as one that stood still and the one in its place.
        for amount in range(30):
            await one.execute(Pay(account_id=f"a{amount % 2}", amount=amount))
        (target,) = await one.runtime.targets()
        projection = one.runtime.projections[0]
        both = [bus.runtime.projector(projection, target, bus.service) for bus in (one, other)]
        streams = ["account-a0", "account-a1"]
        await asyncio.gather(*(projector.apply_streams(streams) for projector in both))
        for projector in both:
            await projector.close()
        places = await places_in(kafka_server, unique)
        assert set(places) == await places_in_log(one)
        assert in_order(places)
