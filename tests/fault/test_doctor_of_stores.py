"""Stores of projections and feeds that were spoilt: `bus doctor` names them with their remedies,
and leaves them as they are."""

from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka.admin import AIOKafkaAdminClient

from bus import Bus, Projection, Projections, Settings, Upsert, Worker
from bus.kafka import KafkaFeed, KafkaTopic
from bus.operate.doctor.doctor import Doctor
from bus.stores.search import SearchIndex
from bus.stores.sink import Sink
from bus.stores.sql import SqlTable
from tests.fault.diagnosis import amiss, one
from tests.service.feeding import reports
from tests.service.sending import Pay as PayIn
from tests.service.sending import bank
from tests.service.wallet import Paid, Pay, Wallet, build
from tests.waiting import until
from tools.services import statements
from tools.services.jars import search


@pytest.fixture
def settings(real_settings: Settings) -> Settings:
    """The broker has no part in these."""
    return real_settings.model_copy(update={"amqp_url": "memory://"})


def with_sink(settings: Settings, service: str, sink: Sink) -> Bus:
    """The wallets, of which one projection is kept elsewhere."""
    amounts: Projection[Any] = Projection("amounts", of=[Wallet], sink=sink)

    @amounts.on(Paid)
    def paid(event: Paid) -> Upsert:
        return Upsert(amount=event.amount)

    return build(settings, service=service, also=[amounts])


async def worked(bus: Bus) -> None:
    """Has it work until all is where it belongs."""
    async with bus, Worker(bus):
        await bus.execute(Pay(wallet_id="a", amount=1))

        async def is_done() -> bool:
            status = await Projections(bus).status()
            return all(one.lag is not None and not one.lag.events for one in status)

        await until(is_done, "all is projected")


async def said(bus: Bus) -> str:
    """What is as it should be, in the other stores."""
    found = await Doctor(bus).examine(["stores"])
    return "; ".join(finding.what for finding in found if finding.level == "ok")


def table(*further: sa.Column[Any]) -> sa.Table:
    key = sa.Column("id", sa.String(60), primary_key=True)
    return sa.Table("amounts", sa.MetaData(), key, sa.Column("amount", sa.Integer), *further)


async def test_a_table_that_is_gone_or_declared_otherwise_is_named(
    sql_url: str, settings: Settings, unique: str
) -> None:
    bus = with_sink(settings, unique, SqlTable(table(), url=sql_url))
    assert await amiss(bus, "stores") == []  # it has no collections before it first ran
    await worked(bus)
    bus = with_sink(settings, unique, SqlTable(table(), url=sql_url))
    assert await amiss(bus, "stores") == []
    assert "projection amounts: " in await said(bus)
    other = table(sa.Column("note", sa.String(20)))
    found = await amiss(with_sink(settings, unique, SqlTable(other, url=sql_url)), "stores")
    assert one(found, "stores", "projection amounts: amounts__v1").promise == "G3"
    statements.run(sql_url, "DROP TABLE amounts__v1 CASCADE")
    found = await amiss(bus, "stores", "contents")
    assert one(found, "stores", "there is no table of it yet").level == "error"
    assert one(found, "contents", "'amounts__v1' was dropped").level == "error"
    found = await amiss(with_sink(settings, unique, SqlTable(table(), url=away(sql_url))))
    assert {finding.part for finding in found if finding.level == "error"} == {"stores"}


def away(url: str) -> str:
    """The URL with a port where nobody listens."""
    place = sa.make_url(url)
    return place.set(port=1).render_as_string(hide_password=False)


async def test_an_index_that_is_gone_or_declared_otherwise_is_named(
    search_url: str, settings: Settings, unique: str
) -> None:
    def sink(kind: str) -> SearchIndex:
        mappings = {"properties": {"amount": {"type": kind}}}
        return SearchIndex(url=search_url, mappings=mappings, prefix=unique)

    bus = with_sink(settings, unique, sink("long"))
    assert await amiss(bus, "stores") == []
    await worked(bus)
    bus = with_sink(settings, unique, sink("long"))
    assert await amiss(bus, "stores") == []
    assert "search" in await said(bus)
    found = await amiss(with_sink(settings, unique, sink("keyword")), "stores")
    assert "raise the projection's version=" in one(found, "stores", "the field 'amount'").remedy
    search.call(search_url, "DELETE", f"/{unique}amounts__v1")
    assert one(await amiss(bus, "stores"), "stores", "no such index").level == "error"


async def test_a_topic_that_differs_and_a_feed_that_is_behind_are_named(
    kafka_server: str, settings: Settings, unique: str
) -> None:
    def sender(partitions: int) -> Bus:
        return bank(settings, unique, KafkaTopic(unique, url=kafka_server, partitions=partitions))

    feed = KafkaFeed(unique, topic=unique, url=kafka_server)
    fed = settings.model_copy(update={"mongo_db": f"{unique}_fed"})
    assert one(await amiss(sender(2), "stores"), "stores", "there is no such topic yet").remedy
    found = await amiss(reports(fed, f"{unique}_fed", feed), "stores")
    assert f"start a worker of service '{unique}'" in one(found, "stores", "no such topic").remedy
    owner = sender(2)
    async with owner, Worker(owner):
        await owner.execute(PayIn(account_id="a", amount=1))

        async def is_sent() -> bool:
            return await amiss(reports(fed, f"{unique}_fed", feed), "stores") != found

        await until(is_sent, "it is sent")
    assert await amiss(sender(2), "stores") == []
    differs = one(await amiss(sender(3), "stores"), "stores", "it has 2 partitions, and 3 are")
    assert (differs.level, differs.remedy[:20]) == ("warning", "declare partitions=2")
    unread = one(await amiss(reports(fed, f"{unique}_fed", feed), "stores"), "stores", "was read")
    assert unread.remedy == "start a worker of this service"
    reader = reports(fed, f"{unique}_fed", feed)
    async with reader, Worker(reader):

        async def is_read() -> bool:
            return "that are not settled: 0" in await said(reports(fed, f"{unique}_fed", feed))

        await until(is_read, "all is read")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.removeprefix("kafka://"))
    await admin.start()
    await admin.delete_topics([unique])
    await admin.close()


async def test_stores_that_are_away_are_named_each_and_hide_nothing(
    settings: Settings, unique: str
) -> None:
    mappings = {"properties": {"amount": {"type": "long"}}}
    sinks: list[Bus] = [
        with_sink(settings, unique, SearchIndex(url="http://127.0.0.1:1", mappings=mappings)),
        bank(settings, unique, KafkaTopic("jobs", url="kafka://127.0.0.1:1")),
        reports(settings, unique, KafkaFeed("jobs", topic="jobs", url="kafka://127.0.0.1:1")),
    ]
    for bus in sinks:
        found = [finding for finding in await amiss(bus) if finding.level == "error"]
        assert [finding.part for finding in found] == ["stores"]
        assert found[0].remedy
