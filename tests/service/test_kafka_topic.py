"""Events in a topic of Kafka's: all of them, from history on, each stream in its order."""

import json
from datetime import timedelta

import pytest

from bus import ConfigurationError, HealthProblem, Projections, Settings, Worker
from bus.kafka import KafkaTopic
from tests.service.sending import (
    Paid,
    Pay,
    bank,
    firsts,
    in_order,
    places_in_log,
)
from tests.service.topics import place, places_in, records_in
from tests.waiting import until


async def test_every_event_is_there_in_order_with_what_was_before(
    real_settings: Settings, kafka_server: str, unique: str
) -> None:
    sink = KafkaTopic(unique, url=kafka_server, partitions=3)
    async with bank(real_settings, unique, None) as bus, Worker(bus):
        for amount in range(12):
            await bus.execute(Pay(account_id=f"a{amount % 4}", amount=amount))
    async with bank(real_settings, unique, sink) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a0", amount=99), id="last")
        wanted = await places_in_log(bus)

        async def is_whole() -> bool:
            status = await Projections(bus).status()
            return [(s.state, s.lag and s.lag.events) for s in status] == [("read", 0)]

        await until(is_whole, "the topic to be filled")
    records = await records_in(kafka_server, unique)
    places = list(map(place, records))
    assert set(places) == wanted
    assert len(places) == len(wanted)
    assert in_order(places)
    last = next(record for record in records if dict(record.headers)["id"] == b"last:1")
    headers = {name: value.decode() for name, value in last.headers}
    time = headers.pop("time")
    assert last.key == b"account-a0"
    assert json.loads(last.value) == {"amount": 99, "note": ""}
    assert time.endswith("+00:00")
    assert headers == {
        "id": "last:1",
        "name": Paid.wire_name,
        "schema": "1",
        "stream": "account-a0",
        "version": "5",
        "correlation_id": "last",
        "causation_id": "last",
        "service": unique,
    }


async def test_a_rebuild_sends_everything_again_with_the_same_ids(
    real_settings: Settings, kafka_server: str, unique: str
) -> None:
    sink = KafkaTopic(unique, url=kafka_server, partitions=1)
    async with bank(real_settings, unique, sink) as bus, Worker(bus):
        for amount in range(3):
            await bus.execute(Pay(account_id="a", amount=amount))

        async def has(count: int) -> bool:
            return len(await places_in(kafka_server, unique)) == count

        await until(lambda: has(4), "the events")
        await Projections(bus).rebuild("sent")
        await until(lambda: has(8), "the repeats")
    records = await records_in(kafka_server, unique)
    ids = [dict(record.headers)["id"] for record in records]
    assert ids[:4] == ids[4:]


async def test_an_event_that_is_too_large_parks_its_stream_and_no_other(
    real_settings: Settings, kafka_server: str, unique: str
) -> None:
    sink = KafkaTopic(unique, url=kafka_server, partitions=2, max_bytes=10_000)
    async with bank(real_settings, unique, sink) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a", amount=1))
        await bus.execute(Pay(account_id="a", amount=2, note="x" * 10_000))
        await bus.execute(Pay(account_id="a", amount=3))
        await bus.execute(Pay(account_id="b", amount=4))

        async def is_parked() -> bool:
            (status,) = await Projections(bus).status()
            return status.parked == 1

        await until(is_parked, "the parked stream")

        async def are_there() -> bool:
            found = firsts(await places_in(kafka_server, unique))
            return set(found) == {(f"account-{a}", version) for a in "ab" for version in (1, 2)}

        await until(are_there, "what comes before it, and the other stream")


async def test_what_differs_from_the_declaration_is_told_and_streams_keep_their_order(
    real_settings: Settings, kafka_server: str, unique: str
) -> None:
    def sink(partitions: int, retention: timedelta | None = None) -> KafkaTopic:
        return KafkaTopic(unique, url=kafka_server, partitions=partitions, retention=retention)

    async with bank(real_settings, unique, sink(3)) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a", amount=1))
        await until(lambda: places_in(kafka_server, unique), "the first events")
    other = sink(2, timedelta(days=1))
    async with bank(real_settings, unique, other) as bus, Worker(bus):

        async def told() -> list[HealthProblem]:
            return [p for p in (await bus.health()).problems if "collection" in p.part]

        (problem,) = await until(told, "what differs")
        assert "it has 3 partitions, and 2 are declared; declare partitions=3" in problem.what
        assert "retention.ms is -1, and 86400000 is declared" in problem.what
    async with bank(real_settings, unique, sink(4)) as bus, Worker(bus):
        await bus.execute(Pay(account_id="a", amount=2))

        async def is_held() -> bool:
            problems = (await bus.health()).problems
            return any("has 3 partitions, and 4 are declared" in p.what for p in problems)

        await until(is_held, "the reason why nothing is sent")
    assert len(await places_in(kafka_server, unique)) == 2


def test_what_cannot_be_declared_is_refused_at_once() -> None:
    for url in ("localhost:9092", "kafka://localhost", "kafka://a:1/topic", "kafka://a:1/?x=1"):
        with pytest.raises(ConfigurationError, match=r"write it as kafka://"):
            KafkaTopic("jobs", url=url)
    with pytest.raises(ConfigurationError, match="a topic's name"):
        KafkaTopic("jobs events", url="kafka://a:1")
