"""How far a service's group has come in a topic that feeds it. Joins no group, and changes
nothing."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bus.kafka.failures import IS_FED, told
from bus.kafka.feed import KafkaFeed
from bus.kafka.topics import administering, partitions_of
from bus.kafka.urls import connection
from bus.observe.health import Finding, fault, fine, warning


async def examined_feed(feed: KafkaFeed, service: str) -> list[Finding]:
    """Returns how many records a group has not settled. Raises: StoreUnavailable, NotAllowed,
    ConfigurationError."""
    with told(feed.where, IS_FED):
        async with administering(feed.url, feed.where) as admin:
            count = await partitions_of(admin, feed.topic)
            if not count:
                sender = f"start a worker of service {feed.owner!r}, which makes it"
                return [fault(f"{feed.where}: there is no such topic yet", sender, "G14")]
            behind = await _behind(admin, feed, feed.group_of(service), count)
    if behind is None:
        remedy = "start a worker of this service"
        return [warning(f"{feed.where}: nothing of it was read yet", remedy, "G14")]
    return [fine(f"{feed.where}: {count} partitions; records that are not settled: {behind:,}")]


async def _behind(
    admin: AIOKafkaAdminClient, feed: KafkaFeed, group: str, count: int
) -> int | None:
    """Returns how many records the group has not settled, None if it has settled none ever."""
    parts = [TopicPartition(feed.topic, number) for number in range(count)]
    settled = await admin.list_consumer_group_offsets(group, partitions=parts)
    consumer = AIOKafkaConsumer(**connection(feed.url, feed.where))
    try:
        await consumer.start()
        ends = await consumer.end_offsets(parts)
        begun = await consumer.beginning_offsets(parts)
    finally:
        await consumer.stop()
    reached = {part: place.offset for part, place in settled.items() if place.offset >= 0}
    if not reached and any(ends[part] > begun[part] for part in parts):
        return None
    return int(sum(ends[part] - max(reached.get(part, 0), begun[part]) for part in parts))
