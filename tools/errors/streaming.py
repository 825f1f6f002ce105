"""Events that go elsewhere: projections with a sink, and Kafka."""

from typing import Any

from bus import Bus, Projection, Router, Settings
from bus.kafka import KafkaFeed, KafkaTopic
from bus.stores.sink import Upsert
from bus.stores.sinks.memory import MemorySink
from tools.errors.bank import Account, AccountOpened, BalanceView, accounts
from tools.errors.entries import Section

elsewhere = Section(
    "Projections kept elsewhere",
    "Told where the projection is declared, before anything is connected; what a handler returns "
    "parks its stream.",
)
streams = Section("Events in Kafka", "Told where a topic, or a feed from one, is declared.")
SECTIONS = [elsewhere, streams]

URL = "kafka://localhost:9092"


@elsewhere("ConfigurationError: sink='kafka://localhost:9092' is no sink")
def a_sink_that_is_a_url() -> None:
    Projection("sent", of=[Account], sink=URL)  # type: ignore[arg-type]


@elsewhere("ConfigurationError: view= is of MongoDB's documents, and it has a sink")
def a_view_beside_a_sink() -> None:
    Projection("rows", of=[Account], view=BalanceView, sink=MemorySink())


@elsewhere("ConfigurationError: is async, and a projection with a sink decides by the event alone")
def an_async_handler_of_a_sink() -> None:
    rows: Projection[Any] = Projection("rows", of=[Account], sink=MemorySink())

    @rows.on(AccountOpened)
    async def opened(event: AccountOpened) -> Upsert:
        return Upsert(owner=event.owner)


@elsewhere("ConfigurationError: for MemorySink it returns Upsert, Increment, Remove or None")
def a_handler_that_returns_an_update() -> None:
    rows: Projection[Any] = Projection("rows", of=[Account], sink=MemorySink())

    @rows.on(AccountOpened)
    def opened(event: AccountOpened) -> str:
        return event.owner


@elsewhere("ConfigurationError: Projection 'rows' has a sink, and no view")
def the_view_of_a_sink() -> None:
    rows: Projection[Any] = Projection("rows", of=[Account], sink=MemorySink())
    print(rows.view)


@streams("ConfigurationError: KafkaTopic('bank events'): a topic's name has letters, digits")
def a_topic_whose_name_cannot_be() -> None:
    KafkaTopic("bank events", url=URL)


@streams("ConfigurationError: the URL does not begin with kafka://")
def a_url_of_another_kind() -> None:
    KafkaTopic("bank_events", url="localhost:9092")


@streams("ConfigurationError: the URL does not give each broker as host:port")
def a_broker_without_its_port() -> None:
    KafkaTopic("bank_events", url="kafka://localhost")


@streams("ConfigurationError: url= is text, as in kafka://")
def a_url_that_is_none() -> None:
    KafkaTopic("bank_events", url=None)  # type: ignore[arg-type]


@streams("ConfigurationError: retention=7 is no timedelta")
def a_retention_without_its_unit() -> None:
    KafkaTopic("bank_events", url=URL, retention=7)  # type: ignore[arg-type]


@streams("ConfigurationError: settings= has 'min.insync.replicas': NoneType")
def a_setting_of_a_topic_without_a_value() -> None:
    wrong: Any = {"min.insync.replicas": None}
    KafkaTopic("bank_events", url=URL, settings=wrong)


@streams("ConfigurationError: on(...): KafkaTopic is sent every event of its categories as it is")
def a_handler_of_what_goes_to_a_topic() -> None:
    sink = KafkaTopic("bank_events", url=URL)
    sent: Projection[Any] = Projection("sent", of=[Account], sink=sink)

    @sent.on(AccountOpened)
    def opened(event: AccountOpened) -> None: ...


@streams("ConfigurationError: its projection 'sent' keeps documents or versions in MongoDB")
def a_topic_without_checkpoints() -> None:
    sink = KafkaTopic("bank_events", url=URL)
    sent: Projection[Any] = Projection("sent", of=[Account], sink=sink)
    log = "postgresql+asyncpg://localhost/bank"
    settings = Settings(amqp_url="memory://", mongo_url="", log_url=log)
    Bus("bank", routers=[accounts], projections=[sent], settings=settings)


@streams("ConfigurationError: KafkaFeed('jobs', topic='jobs events'): a topic's name has letters")
def a_feed_from_a_topic_that_cannot_be() -> None:
    KafkaFeed("jobs", topic="jobs events", url=URL)


@streams("ConfigurationError: greet handles events, some of which come by a feed")
def a_handler_of_fed_events_without_a_broker() -> None:
    greetings = Router("greetings")

    @greetings.event
    async def greet(event: AccountOpened) -> None: ...

    feed = KafkaFeed("bank", topic="bank_events", url=URL)
    settings = Settings(amqp_url="memory://", mongo_url="mongodb://localhost")
    Bus("letters", routers=[greetings], foreign={"account": feed}, settings=settings)
