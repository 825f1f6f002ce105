"""Events to and from Kafka, by aiokafka, which no other room knows. In the order in which to read:

topic     a sink: every event of a projection's categories goes to a topic
outlet    the producer that sends them
topics    makes topics, and compares them with their declaration
feed      another service's events come from a topic
reader    the consumer that takes them
examining how far a group has come in a topic
records   events as records, and back
urls      how the brokers are reached
failures  what an error of Kafka's means
"""

from bus.errors import ConfigurationError

try:
    import aiokafka  # noqa: F401
except ModuleNotFoundError:
    raise ConfigurationError(
        "bus.kafka needs aiokafka, which is not installed: pip install 'doubledecker[kafka]'"
    ) from None

from bus.kafka.feed import KafkaFeed
from bus.kafka.topic import KafkaTopic

__all__ = ["KafkaFeed", "KafkaTopic"]
