"""What is declared of another kind than it is to be is refused where it is written."""

import operator
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import BaseModel
from pymongo import AsyncMongoClient

from bus import (
    Aggregate,
    Bus,
    ConfigurationError,
    Delete,
    Documents,
    Envelope,
    Event,
    Index,
    InvalidMessage,
    Outbox,
    Projection,
    ProjectionError,
    Repository,
    RetryPolicy,
    Router,
    Session,
    Settings,
    Update,
)
from bus.read.projection import Change
from bus.testing import given


class Opened(Event):
    name: str = ""


class Shop(Aggregate, events=[Opened]):
    pass


class ShopView(BaseModel):
    id: str


def projecting(**options: Any) -> Projection[ShopView]:
    values: dict[str, Any] = {"of": [Shop], "view": ShopView} | options
    return Projection(values.pop("name", "shops"), **values)


def bus(service: Any = "shops", **options: Any) -> Bus:
    values: dict[str, Any] = {"settings": Settings.in_memory()} | options
    return Bus(service, **values)


def keyed(key: Any) -> Any:
    return projecting().on(Opened, key=key)


def an_aggregate(**options: Any) -> Callable[[], Any]:
    def declare() -> None:
        class Made(Aggregate, **options):
            pass

    return declare


def router(**options: Any) -> Callable[[], Router]:
    return lambda: Router(options.pop("name", "shops"), **options)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: bus(5), r"Bus\(5\): the service's name is text"),
    (
        lambda: bus(settings=None),
        r"settings= is of type NoneType; write it as in settings=Settings\(\)",
    ),
    (
        lambda: bus(settings=Settings),
        r"settings= is the class Settings; write it as in settings=Settings\(\)",
    ),
    (
        lambda: bus(routers=Router("a")),
        r"routers= is of type Router; write it as in routers=\[orders\]",
    ),
    (lambda: bus(routers=[Shop]), r"routers= holds the class Shop; write it as in routers="),
    (
        lambda: bus(routers=iter([Router("a")])),
        r"routers= is of type list_iterator; write it as in routers=\[",
    ),
    (lambda: bus(routers=None), r"routers= is of type NoneType; write it as in routers=\[orders\]"),
    (
        lambda: bus(projections=projecting()),
        r"projections= is of type Projection; write it as in pr",
    ),
    (lambda: bus(projections=[Shop]), r"projections= holds the class Shop; write it as in pr"),
    (
        lambda: bus(middleware=print),
        r"middleware= is of type builtin_.*; write it as in middleware=\[timed\]",
    ),
    (
        lambda: bus(middleware=[1]),
        r"middleware= holds something of type int; write it as in middleware=\[timed\]",
    ),
    (
        lambda: bus(provide=[Shop]),
        r"provide= is of type list; write it as in provide=\{Mailer: mailer\}",
    ),
    (
        lambda: bus(foreign=["job"]),
        r"foreign= is of type list; write it as in foreign=\{'job': 'jobs'\}",
    ),
    (
        lambda: bus(foreign={"job": 1}),
        r"foreign= holds something of type int; write it as in foreign=\{'job': 'jobs'\}",
    ),
    (router(name=1), r"Router\(1\): the name becomes a queue's"),
    (router(concurrency="2"), r"concurrency='2': give a whole number, 1 or more"),
    (router(concurrency=0), r"concurrency=0: give a whole number, 1 or more"),
    (router(time_limit="2"), r"time_limit='2': give seconds, more than 0"),
    (router(time_limit=0), r"time_limit=0: give seconds, more than 0"),
    (router(retry=3), r"retry=3: give one RetryPolicy\(tries=...\), or one for each class"),
    (router(retry={ValueError: 3}), r"retry=3: give one RetryPolicy\(tries=...\), or"),
    (router(retry=[RetryPolicy()]), r"retry=\[.*\]: give one RetryPolicy\(tries=...\), or one"),
    (lambda: projecting(name=1), r"Projection\(1\): the name becomes a collection's"),
    (lambda: projecting(of=Shop), r"of= lists aggregates' classes, one at least, as in of=\[Acco"),
    (lambda: projecting(of=[Shop("a")]), r"of= lists aggregates' classes, one at least"),
    (lambda: projecting(partitions="2"), r"partitions='2': give a whole number, 1 or more"),
    (lambda: projecting(indexes="name"), r"indexes='name': write a list of Index"),
    (lambda: projecting(indexes=["name"]), r"indexes=\['name'\]: write a list of Index"),
    (lambda: keyed("name"), r"on\(key=...\): 'name' cannot be called; give"),
    (lambda: keyed(lambda: "a"), r"on\(key=...\): too many positional .*; g"),
    (an_aggregate(events=Opened), r"Made: events=<class .*: write a list of classes of events"),
    (an_aggregate(events=[Opened()]), r"Made: events=.*: write a list of classes of events"),
    (an_aggregate(events=[Event]), r"Made: events=.*, each a subclass of Event, as in events=\["),
    (an_aggregate(events="Opened"), r"Made: events='Opened': write a list of classes of events"),
    (an_aggregate(category=5), r"Made: 5 is not a valid category"),
    (an_aggregate(snapshot_every="5"), r"Made: snapshot_every='5': give a whole number, 0 or more"),
    (an_aggregate(snapshot_every=-5), r"Made: snapshot_every=-5: give a whole number, 0 or more"),
]


@pytest.mark.parametrize(("declare", "told"), REFUSED)
def test_what_is_declared_of_another_kind_is_refused_where_it_is_written(
    declare: Callable[[], Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        declare()


def test_a_key_that_nobody_would_await_is_refused() -> None:
    async def key(event: Opened) -> str:
        return event.name

    with pytest.raises(ConfigurationError, match=r"on\(key=...\): it is async; give a function"):
        keyed(key)


NO_CHANGES: list[Any] = [
    *(ShopView, tuple[str, Update], list[ShopView] | ShopView),
    *(list[Update], list[dict[str, Any]], list[Delete], list[Change], list[str]),
    *(tuple[Update, ...], Sequence[Update] | None, list[tuple[str, str, Update]], list[tuple[str]]),
]


@pytest.mark.parametrize("result", NO_CHANGES, ids=str)
def test_a_result_that_changes_no_document_is_refused_at_the_decorator(result: Any) -> None:
    def change(event: Opened) -> Any: ...

    change.__annotations__["return"] = result
    with pytest.raises(ConfigurationError, match=r"change: it returns .*; it may return an update"):
        projecting().on(Opened)(change)


class Pair(NamedTuple):
    key: str
    change: Change


PAIRS: list[Any] = [
    *(Any, list, tuple, list[Any], list[tuple[str, Update]], list[tuple[str, Change]] | None),
    *(list[Pair], tuple[Pair, ...], Sequence[tuple[str, Update]], tuple[Pair, Pair]),
    *(list[list[Any]], list[tuple[Any, ...]], list[tuple[str, Update] | Pair], list[object]),
]


@pytest.mark.parametrize("result", PAIRS, ids=str)
def test_a_result_that_may_be_pairs_is_taken(result: Any) -> None:
    def change(event: Opened) -> Any: ...

    change.__annotations__["return"] = result
    projection = projecting()
    projection.on(Opened)(change)
    assert projection.handlers[Opened].many


def test_a_list_of_what_are_no_pairs_is_told() -> None:
    projection = projecting()

    @projection.on(Opened)
    def change(event: Opened) -> list[tuple[str, Update]]:
        return [{"$set": {"a": 1}}]  # type: ignore[list-item]

    with pytest.raises(ProjectionError, match=r"change .*an entry that is no pair of a key and a"):
        given(Shop, "a", Opened()).project(projection)


@pytest.mark.parametrize(
    ("base", "known"),
    [(Event, "name=, schema=, and of events formerly="), (Aggregate, "category=, events=, snaps")],
)
def test_an_option_of_a_class_that_there_is_none_of_is_told(base: type, known: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"Made: its class takes no nmae=; it takes {known}"
    ):
        types.new_class("Made", (base,), {"nmae": "a"})


@pytest.mark.parametrize("base", [Event, Aggregate])
def test_a_type_error_of_a_class_beside_it_is_its_own(base: type) -> None:
    class Mixed:
        def __init_subclass__(cls) -> None:
            raise TypeError("mixed")

    with pytest.raises(TypeError, match="mixed"):
        types.new_class("Made", (base, Mixed))


@pytest.mark.parametrize("event", [Opened, None, "opened"])
def test_what_is_recorded_and_is_no_event_is_told(event: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"Shop.record takes an Event, and this is "):
        Shop("a").record(event)


def test_what_is_declared_right_is_taken() -> None:
    projection = projecting(of=(Shop,), indexes=(Index((("name", 1),)),), partitions=2)
    projection.on(Opened, key=operator.attrgetter("name"))
    shops = Router("shops_too", concurrency=1, time_limit=0.5, retry={ValueError: RetryPolicy()})
    assert bus(routers=(shops,), projections=(projection,), middleware=()).service == "shops"


def test_the_same_object_twice_is_told() -> None:
    projection, declared = projecting(), Router("mails")
    with pytest.raises(ConfigurationError, match=r"projections= holds the same Projection\('shops"):
        bus(projections=[projection, projection])
    with pytest.raises(
        ConfigurationError, match=r"routers= holds the same Router\('mails'\) twice"
    ):
        bus(routers=[declared, Router("others"), declared])


@pytest.mark.parametrize(
    "key",
    [Envelope, Repository, Repository[Shop], Documents, Documents[ShopView], Session, Outbox],
    ids=str,
)
def test_what_the_bus_itself_gives_cannot_be_provided(key: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"provide=\{.*: ...\}: the bus itself gives"):
        bus(provide={key: 5})


@pytest.mark.parametrize("client", [AsyncMongoClient, AsyncIOMotorClient])
def test_the_class_of_a_client_is_no_client(client: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is the class.*client=lambda: Async\w+\(url\)"):
        bus(client=client)


def test_a_class_of_a_client_that_knows_its_server_is_taken() -> None:
    class Client(AsyncMongoClient[Any]):
        def __init__(self) -> None:
            super().__init__("mongodb://localhost:1", connect=False)

    bus(client=Client)
