"""KafkaFeed: declares that another service's events come from a topic. No I/O."""

from typing import TYPE_CHECKING

from bus.common.urls import Url
from bus.errors import ConfigurationError
from bus.kafka import urls
from bus.kafka.topic import check_name
from bus.observe.health import Finding
from bus.transports.feed import Feed

if TYPE_CHECKING:
    from bus.kafka.reader import KafkaReader


class KafkaFeed(Feed):
    """Has the events of a category come from a topic that another service's `KafkaTopic` fills.

        Bus("reports", foreign={"job": KafkaFeed("jobs", topic="jobs_events", url=...)}, ...)

    `owner` is that service. Workers of this service share the topic's partitions, as a consumer
    group; its name begins with `group` (default: this service's name and the topic's). What the
    topic holds of other categories is passed over. `url` may be a function that returns it, which
    is called for each connection.

    Raises: ConfigurationError.
    """

    def __init__(self, owner: str, *, topic: str, url: Url, group: str = "") -> None:
        self.where = f"KafkaFeed({owner!r:.100}, topic={topic!r:.100})"
        check_name(topic, self.where)
        urls.check(url, self.where)
        if group:
            check_name(group, f"{self.where}: group")
        if not isinstance(owner, str):
            raise ConfigurationError(
                f"{self.where}: the first argument is the name of the service that sends"
            )
        self.owner = owner
        self.topic = topic
        self.url = url
        self.group = group
        self.beginnings: dict[int, int] = {}
        """The earliest offset of each partition, as a reader in this process saw it last."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KafkaFeed) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        return self.owner, self.topic, self.url, self.group

    @property
    def name(self) -> str:
        return f"topic {self.topic}"

    def reader(self, owner: str, group: str) -> "KafkaReader":
        from bus.kafka.reader import KafkaReader

        return KafkaReader(self, owner, self.group_of(group))

    def group_of(self, service: str) -> str:
        """Returns the name of the consumer group of a service's processes."""
        return f"{self.group or service}.{self.topic}"

    async def examined(self, service: str) -> list[Finding]:
        """Returns how far a service has come in it. Raises: StoreUnavailable, NotAllowed,
        ConfigurationError."""
        from bus.kafka.examining import examined_feed

        return await examined_feed(self, service)

    def missing(self) -> str:
        cut = {part: offset for part, offset in sorted(self.beginnings.items()) if offset}
        if not cut:
            return f"the topic {self.topic!r} may bring it yet; is a worker of the sender running?"
        begins = ", ".join(f"{part} at offset {offset:,}" for part, offset in cut.items())
        return (
            f"the topic {self.topic!r} does not go back to its start (partition {begins}): what "
            f"was before was removed, by its retention for one; have service {self.owner!r} send "
            f"all again, by `bus projections rebuild` of what it sends from"
        )
