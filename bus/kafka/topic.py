"""KafkaTopic: declares that every event of a projection's categories goes to a topic. No I/O."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bus.common.figures import whole
from bus.common.urls import Url
from bus.errors import ConfigurationError, ProjectionError
from bus.kafka import urls
from bus.kafka.records import record_of
from bus.stores.sinks.sent import EventSink, SentEvent

if TYPE_CHECKING:
    from bus.kafka.outlet import KafkaOutlet

NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}$")
SMALLEST = 10_000
MOST_BYTES = 1_000_000
LARGEST = 100_000_000
MOST_PARTITIONS = 10_000


class KafkaTopic(EventSink):
    """Sends every event of a projection's categories to a topic of Kafka's, from history on.

        sent = KafkaTopic("jobs_events", url="kafka://localhost:9092")
        to_kafka: Projection[Any] = Projection("to_kafka", of=[Job], sink=sent)

    Events of one stream are in one of the `partitions`, in order; the number cannot change under
    the topic's name. Records are kept for `retention` (None: for ever), and have `max_bytes` at
    most. `settings` are further ones of the topic, as {"min.insync.replicas": "2"}; `replicas` is
    the number of its copies (None: the brokers' own default). A topic that exists is left as it is,
    and health tells what differs. `url` may be a function that returns it, which is called for each
    connection. An event that was sent twice, after a crash or by a rebuild, has the same id and
    version both times.

    Raises: ConfigurationError.
    """

    kind = "topic"

    def __init__(
        self,
        topic: str,
        *,
        url: Url,
        partitions: int = 6,
        retention: timedelta | None = None,
        max_bytes: int = MOST_BYTES,
        replicas: int | None = None,
        settings: Mapping[str, str | int | float] | None = None,
    ) -> None:
        self.where = f"KafkaTopic({topic!r:.100})"
        check_name(topic, self.where)
        urls.check(url, self.where)
        self.topic = topic
        self.url = url
        self.partitions = whole(
            partitions, f"{self.where}: partitions", least=1, most=MOST_PARTITIONS
        )
        self.max_bytes = whole(max_bytes, f"{self.where}: max_bytes", least=SMALLEST, most=LARGEST)
        self.replicas = replicas and whole(
            replicas, f"{self.where}: replicas", least=1, most=MOST_PARTITIONS
        )
        self.settings = {
            **_settings(retention, self.max_bytes, self.where),
            **_further(settings or {}, self.where),
        }

    def outlet(self, service: str) -> "KafkaOutlet":
        from bus.kafka.outlet import KafkaOutlet

        return KafkaOutlet(self, service)

    def check(self, key: Any, change: SentEvent) -> None:
        """Raises: ProjectionError if the event is larger than a record may be."""
        size = record_of(change, "").size
        if size > self.max_bytes - SMALLEST // 10:
            raise ProjectionError(
                f"{change.name}: as a record it has {size:,} bytes, and {self.where} takes "
                f"{self.max_bytes:,}; raise max_bytes= there, and the topic's max.message.bytes"
            )


def check_name(topic: object, where: str) -> None:
    """Raises: ConfigurationError if it cannot be a topic's name."""
    if not (isinstance(topic, str) and NAME.match(topic)) or topic in (".", ".."):
        raise ConfigurationError(
            f"{where}: a topic's name has letters, digits, dots, dashes and underscores, 249 at "
            f"most"
        )


def _settings(retention: timedelta | None, max_bytes: int, where: str) -> dict[str, str]:
    if retention is not None and not isinstance(retention, timedelta):
        raise ConfigurationError(
            f"{where}: retention={retention!r:.60} is no timedelta; give one, or None to keep "
            f"everything"
        )
    kept = -1 if retention is None else round(retention.total_seconds() * 1000)
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(kept),
        "retention.bytes": "-1",
        "max.message.bytes": str(max_bytes),
    }


def _further(settings: Mapping[str, Any], where: str) -> dict[str, str]:
    """Returns further settings as Kafka has them: texts. Raises: ConfigurationError."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise ConfigurationError(
                f"{where}: settings= has {name!r:.60}: {type(value).__name__}; name settings of a "
                f'topic, and give each a text, as in {{"min.insync.replicas": "2"}}'
            )
        found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found
