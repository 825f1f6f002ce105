"""A service fed from a topic of Kafka's: its documents, its handlers, what it cannot read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from bus import (
    Bus,
    ConfigurationError,
    DeadLetterError,
    DeadLetters,
    Projections,
    Settings,
    Worker,
)
from bus.codec import event_frames
from bus.delivery import projection_runner
from bus.kafka import KafkaFeed, KafkaTopic
from bus.kafka.topics import administering
from bus.transports.feed import Feed
from tests.databases import drop
from tests.service.feeding import Noted, are_as_folded, reports
from tests.service.sending import Pay, bank
from tests.waiting import is_well, until


@pytest.fixture
async def fed_settings(mongo_url: str, amqp_url: str, unique: str) -> AsyncIterator[Settings]:
    """The settings of the service that is fed."""
    name = f"{unique}_fed"
    yield Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=name, gap_within=1.0)
    await drop(mongo_url, name)


@asynccontextmanager
async def paying(
    settings: Settings, name: str, url: str, partitions: int = 2
) -> AsyncIterator[Bus]:
    """The bank, whose events go to a topic of its name."""
    sink = KafkaTopic(name, url=url, partitions=partitions)
    async with bank(settings, name, sink) as bus, Worker(bus):
        yield bus


def feed(name: str, url: str) -> Feed:
    return KafkaFeed(name, topic=name, url=url)


async def pay(bus: Bus, count: int, *, accounts: int = 3) -> None:
    for amount in range(count):
        await bus.execute(Pay(account_id=f"a{amount % accounts}", amount=amount))


async def is_read(fed: Bus) -> bool:
    (status,) = await Projections(fed).status()
    return status.state == "read"


@pytest.mark.parametrize("has_broker", [True, False])
async def test_documents_equal_the_fold_with_what_was_before_and_without_a_broker_too(
    real_settings: Settings,
    fed_settings: Settings,
    kafka_server: str,
    unique: str,
    has_broker: bool,
) -> None:
    if not has_broker:
        fed_settings = fed_settings.model_copy(update={"amqp_url": "memory://"})
    async with paying(real_settings, unique, kafka_server) as owner:
        await pay(owner, 20)
        async with reports(fed_settings, f"{unique}_fed", feed(unique, kafka_server)) as fed:
            async with Worker(fed):
                await pay(owner, 20)
                await until(lambda: is_read(fed), "the history to be built", within=60)
                await until(lambda: are_as_folded(fed, owner), "the documents", within=60)
            await pay(owner, 10)
            async with Worker(fed):
                await until(lambda: are_as_folded(fed, owner), "what came since", within=60)
                await until(lambda: is_well(fed), "health tells of nothing")


async def test_what_is_sent_again_runs_no_handler_and_changes_no_document(
    real_settings: Settings, fed_settings: Settings, kafka_server: str, unique: str
) -> None:
    noted = Noted()
    async with paying(real_settings, unique, kafka_server) as owner:
        fed = reports(fed_settings, f"{unique}_fed", feed(unique, kafka_server), noted)
        async with fed, Worker(fed):
            await pay(owner, 10)
            await until(lambda: sorted(noted) == [*range(10)], "each noted", within=60)
            built = await Projections(owner).rebuild("sent")

            async def is_over() -> bool:
                found = await Projections(owner).status()
                return any(one.collection == built and one.state == "read" for one in found)

            await until(is_over, "the rebuild", within=60)
            await owner.execute(Pay(account_id="a0", amount=99))
            await until(lambda: 99 in noted, "what came after all repeats", within=60)
            await until(lambda: are_as_folded(fed, owner), "the documents", within=60)
    assert sorted(noted) == [*range(10), 99]


async def test_handlers_hear_what_happens_since_the_service_is_fed(
    real_settings: Settings, fed_settings: Settings, kafka_server: str, unique: str
) -> None:
    noted = Noted()
    name = f"{unique}_fed"
    async with paying(real_settings, unique, kafka_server) as owner:
        await pay(owner, 10)
        fed = reports(fed_settings, name, feed(unique, kafka_server), noted)
        async with fed, Worker(fed):
            await owner.execute(Pay(account_id="a0", amount=100))
            await until(lambda: are_as_folded(fed, owner), "the documents", within=60)
            await until(lambda: noted == [100], "what came since", within=60)
        await owner.execute(Pay(account_id="a1", amount=101))
        again = reports(fed_settings, name, feed(unique, kafka_server), noted)
        async with again, Worker(again):
            await until(lambda: noted == [100, 101], "what came meanwhile", within=60)
            await until(lambda: are_as_folded(again, owner), "the documents", within=60)


async def test_records_that_nobody_can_read_are_listed_and_stop_nothing(
    real_settings: Settings, fed_settings: Settings, kafka_server: str, unique: str
) -> None:
    async with paying(real_settings, unique, kafka_server, partitions=1) as owner:
        await pay(owner, 3)
        await until(lambda: is_sent(owner), "all to be sent")
        await poison(kafka_server, unique)
        await pay(owner, 3)
        async with reports(fed_settings, f"{unique}_fed", feed(unique, kafka_server)) as fed:
            async with Worker(fed):
                await until(lambda: is_read(fed), "the history to be built", within=60)
                await until(lambda: are_as_folded(fed, owner), "the documents", within=60)
            letters = await DeadLetters(fed).list()
            with pytest.raises(DeadLetterError, match="have it sent as it should be from there"):
                await DeadLetters(fed).edit(letters[0].id, {"amount": 1})
    found = "\n".join(sorted(letter.reason for letter in letters))
    assert len(letters) == 4, found
    for words in ("has no header 'service'", "sent by 'other'", "is no whole number", "JSON"):
        assert words in found, found
    assert f"{unique}/0@6: " in found, found


async def is_sent(owner: Bus) -> bool:
    (status,) = await Projections(owner).status()
    return bool(status.lag and not status.lag.events)


async def poison(url: str, topic: str) -> None:
    """Sends what is no event: nothing but a value; of another service; no version; no JSON."""
    good = {"id": "x:1", "name": "Paid", "stream": "account-p", "schema": "1", "version": "1"}
    good |= {"time": "2026-01-01T00:00:00+00:00", "service": topic}
    bad: list[dict[str, str]] = [{}, {**good, "service": "other"}, {**good, "version": "no"}, good]
    producer = AIOKafkaProducer(bootstrap_servers=url.removeprefix("kafka://"))
    await producer.start()
    try:
        for number, headers in enumerate(bad):
            texts = [(name, text.encode()) for name, text in headers.items()]
            await producer.send_and_wait(topic, b"{%d" % number, partition=0, headers=texts)
    finally:
        await producer.stop()


async def test_what_others_publish_as_if_it_had_come_from_the_topic_is_refused(
    real_settings: Settings, fed_settings: Settings, kafka_server: str, unique: str
) -> None:
    async with paying(real_settings, unique, kafka_server) as owner:
        await pay(owner, 3)
        fed = reports(fed_settings, f"{unique}_fed", feed(unique, kafka_server))
        async with fed, Worker(fed):
            await until(lambda: are_as_folded(fed, owner), "the documents", within=60)
            commits = await owner.runtime.event_log.read("account-a0")
            forged = commits[-1]._replace(id="forged", first=commits[-1].last + 1)
            await fed.runtime.transport.publish(event_frames(forged))

            async def is_refused() -> bool:
                letters = await DeadLetters(fed).list()
                return {one.error for one in letters} == {"NotInTheLog"}

            await until(is_refused, "its dead letters")
            assert await are_as_folded(fed, owner)


async def test_a_topic_whose_beginning_was_removed_is_told_as_that(
    real_settings: Settings,
    fed_settings: Settings,
    kafka_server: str,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection_runner, "MOVE_EVERY", 1.0)
    async with paying(real_settings, unique, kafka_server, partitions=1) as owner:
        await pay(owner, 6, accounts=1)
        await until(lambda: is_sent(owner), "all to be sent")
        async with administering(kafka_server, "the test") as admin:
            part = TopicPartition(unique, 0)
            await admin.delete_records({part: RecordsToDelete(before_offset=4)})
        fed = reports(fed_settings, f"{unique}_fed", feed(unique, kafka_server))
        async with fed, Worker(fed):

            async def reason() -> str:
                return " ".join(one.reason for one in await DeadLetters(fed).list())

            told = await until(reason, "the stream to be parked", within=90)
            assert "version 1 has not arrived" in told
            assert f"the topic {unique!r} does not go back to its start" in told
            assert "partition 0 at offset 4" in told
            await Projections(owner).rebuild("sent")
            await until(lambda: is_read(fed), "the stream to be whole", within=90)
            await until(lambda: are_as_folded(fed, owner), "the documents", within=90)


async def test_handlers_of_fed_events_need_a_queue_that_outlives_the_process(
    fed_settings: Settings, unique: str
) -> None:
    alone = fed_settings.model_copy(update={"amqp_url": "memory://"})
    with pytest.raises(ConfigurationError, match="would be lost with the process"):
        reports(alone, f"{unique}_fed", feed(unique, "kafka://localhost:9092"), Noted())
