"""Find or start the servers that the demo, the tests and the benchmarks run on.

    with services() as found:
        ...  # found.amqp_url, found.mongo_url

Knows nothing of the bus: it hands out URLs, and nodes that tests may kill, pause and restart.
"""

from tools.services.errors import CommandFailed, ServiceError, ServiceUnavailable
from tools.services.finding import Found, Origin, services
from tools.services.jars.kafka import KafkaNode
from tools.services.jars.search import ElasticsearchNode, OpenSearchNode
from tools.services.mariadb import MariaDBNode
from tools.services.mongodb import MongoNode
from tools.services.mysql import MySQLNode
from tools.services.postgresql import PostgreSQLNode
from tools.services.prometheus import PrometheusNode
from tools.services.rabbitmq import RabbitMQNode
from tools.services.redis import RedisNode

__all__ = [
    "CommandFailed",
    "ElasticsearchNode",
    "Found",
    "KafkaNode",
    "MariaDBNode",
    "MongoNode",
    "MySQLNode",
    "OpenSearchNode",
    "Origin",
    "PostgreSQLNode",
    "PrometheusNode",
    "RabbitMQNode",
    "RedisNode",
    "ServiceError",
    "ServiceUnavailable",
    "services",
]
