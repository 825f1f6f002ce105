"""Settings and servers."""

from bus import Bus, Settings, log
from tools.errors import bank
from tools.errors.entries import Section

settings = Section(
    "Settings",
    "All problems are told at once. URLs and secrets are never quoted: a password may stand "
    "anywhere in a URL that is not written as it should be.",
)
SECTIONS = [settings]

settings.command(
    "A worker whose servers are not set",
    "ConfigurationError: BUS_AMQP_URL: is not set",
    "bus worker bank:build",
)
settings.command(
    "Settings with bad values",
    "ConfigurationError: BUS_MONGO_URL: the URL must begin with mongodb:// or mongodb+srv://",
    "bus worker bank:build",
    BUS_AMQP_URL="amqp://guest:guest@localhost:5672/",
    BUS_MONGO_URL="localhost:27017",
    BUS_HEARTBEAT="0",
    BUS_STOP_WITHIN="soon",
    BUS_MONGO_DB="my.shop",
    BUS_LOG_LEVEL="verbose",
)
settings.command(
    "A password that is not percent-encoded",
    "ConfigurationError: BUS_AMQP_URL: the URL does not read as amqp://user:password@host:port/",
    "bus worker bank:build",
    BUS_AMQP_URL="amqp://shop:pass/word@localhost:5672/",
    BUS_MONGO_URL="mongodb://shop:p@ss#word@localhost:27017/",
)
settings.command(
    "A database in the URL",
    "ConfigurationError: BUS_MONGO_DB: is not set, while BUS_MONGO_URL names a database after",
    "bus worker bank:build",
    BUS_AMQP_URL="amqp://localhost/",
    BUS_MONGO_URL="mongodb://localhost:27017/shop?replicaSet=rs0",
)
settings.command(
    "A log in SQL without an asynchronous driver",
    "ConfigurationError: BUS_LOG_URL: the URL names no asynchronous driver",
    "bus worker bank:build",
    BUS_AMQP_URL="amqp://localhost/",
    BUS_MONGO_URL="mongodb://localhost:27017/?replicaSet=rs0",
    BUS_LOG_URL="postgresql://shop:secret@localhost/shop",
)
settings.command(
    "A log in SQL with another driver",
    "ConfigurationError: BUS_LOG_URL: the URL names the driver asyncmy, which is not supported",
    "bus worker bank:build",
    BUS_AMQP_URL="amqp://localhost/",
    BUS_MONGO_URL="mongodb://localhost:27017/?replicaSet=rs0",
    BUS_LOG_URL="mysql+asyncmy://shop:secret@localhost/shop",
)
settings.command(
    "TLS for a log in SQL in a driver's own way",
    "ConfigurationError: BUS_LOG_URL: the URL has sslmode, by which TLS is asked for elsewhere",
    "bus worker bank:build",
    BUS_AMQP_URL="amqp://localhost/",
    BUS_MONGO_URL="mongodb://localhost:27017/?replicaSet=rs0",
    BUS_LOG_URL="postgresql+asyncpg://shop:secret@localhost/shop?sslmode=verify-full",
)
settings.command(
    "Checks of TLS turned off",
    "ConfigurationError: BUS_AMQP_URL: the URL has no_verify_ssl, which turns the checks of TLS",
    "bus worker bank:build",
    BUS_AMQP_URL="amqps://broker.example.org/?no_verify_ssl=1",
    BUS_MONGO_URL="mongodb://db.example.org/?tls=true&tlsInsecure=true",
)
settings.command(
    "A certificate as a user, without the certificate",
    "ConfigurationError: BUS_AMQP_URL: the URL has auth=external without certfile",
    "bus worker bank:build",
    BUS_AMQP_URL="amqps://broker.example.org/?auth=external",
    BUS_MONGO_URL="mongodb://localhost:27017/?replicaSet=rs0",
)


@settings("ConfigurationError: prefech: there is no such setting")
def an_unknown_setting() -> None:
    Settings.in_memory(prefech=100)


@settings("ConfigurationError: the database 'admin' is one of MongoDB's own")
def a_database_of_mongodbs_own() -> None:
    """A database of MongoDB's own"""
    urls = {"amqp_url": "amqp://localhost/", "mongo_url": "mongodb://localhost/"}
    Bus("admin", settings=Settings(**urls))


@settings("ConfigurationError: MongoDB: the URL cannot be used: /no/such.pem cannot be read")
def a_certificate_that_is_not_there() -> None:
    """A certificate for MongoDB that is not there"""
    mongo_url = "mongodb://localhost/?tls=true&tlsCAFile=/no/such.pem"
    bank.build(Settings(amqp_url="amqp://localhost/", mongo_url=mongo_url))


@settings(
    "ConfigurationError: BUS_MONGO_URL: the URL has a % that no two hexadecimal digits follow"
)
def a_percent_sign_that_encodes_nothing() -> None:
    mongo_url = "mongodb://shop:50%off@localhost/?replicaSet=rs0"
    bank.build(Settings(amqp_url="amqp://localhost/", mongo_url=mongo_url))


@settings("ConfigurationError: RabbitMQ at localhost:5671: cafile=/no/such.pem cannot be read")
async def a_certificate_for_rabbitmq_that_is_not_there() -> None:
    """A certificate for RabbitMQ that is not there"""
    amqp_url = "amqps://localhost/?cafile=/no/such.pem"
    async with bank.build(Settings(amqp_url=amqp_url, mongo_url="memory://")):
        pass


@settings("ConfigurationError: there is no log level 'verbose'")
def an_unknown_log_level() -> None:
    log.configure(level="verbose")
