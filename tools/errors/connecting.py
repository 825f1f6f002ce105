"""The first day: no server, or none that lets one in."""

from tools.errors.entries import Section
from tools.errors.servers import mongodb, nobody, rabbitmq

connecting = Section(
    "Servers that do not let you in",
    "A worker or an API that starts without MongoDB ends so. One that starts without RabbitMQ goes "
    "on, and waits for it: a line `rabbitmq_away` of its log has these words, and `/readyz` and "
    "`bus worker --check` tell them; commands that need RabbitMQ end so.",
)
SECTIONS = [connecting]

AMQP = {"BUS_MONGO_URL": "memory://"}
MONGO = {"BUS_AMQP_URL": "memory://"}
WRONG = {
    "ok": 0,
    "errmsg": "Authentication failed.",
    "code": 18,
    "codeName": "AuthenticationFailed",
}

connecting.meeting(
    "MongoDB does not run",
    "StoreUnavailable: is it running, and is its URL right?",
    "bus worker bank:build",
    27017,
    nobody,
    BUS_MONGO_URL="mongodb://127.0.0.1:27017/?replicaSet=rs0",
    **MONGO,
)
connecting.meeting(
    "A wrong user or password for MongoDB",
    "ConfigurationError: MongoDB does not allow it: AuthenticationFailed",
    "bus worker bank:build",
    27017,
    mongodb(saslStart=WRONG),
    BUS_MONGO_URL="mongodb://ada:wrong@127.0.0.1:27017/",
    **MONGO,
)
connecting.meeting(
    "MongoDB without a replica set",
    "ConfigurationError: this MongoDB server stands alone: it has no transactions, which",
    "bus worker bank:build",
    27017,
    mongodb(),
    BUS_MONGO_URL="mongodb://127.0.0.1:27017/",
    **MONGO,
)
connecting.meeting(
    "RabbitMQ does not run",
    "TransportUnavailable: is it running, and is its URL right?",
    "bus topology apply bank:build",
    5672,
    nobody,
    BUS_AMQP_URL="amqp://guest:guest@127.0.0.1:5672/",
    **AMQP,
)
connecting.meeting(
    "A wrong user or password for RabbitMQ",
    "TransportUnavailable: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
    "bus topology apply bank:build",
    5672,
    rabbitmq(lets_in=False),
    BUS_AMQP_URL="amqp://ada:wrong@127.0.0.1:5672/",
    **AMQP,
)
connecting.meeting(
    "A virtual host that RabbitMQ does not have",
    "TransportUnavailable: the broker does not open the virtual host of the URL to this user",
    "bus topology apply bank:build",
    5672,
    rabbitmq(lets_in=True),
    BUS_AMQP_URL="amqp://guest:guest@127.0.0.1:5672/shop",
    **AMQP,
)
