"""A small service whose commands write documents of its own, aggregates, and streams that they
name, in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Outbox,
    Projection,
    Query,
    Repository,
    RetryPolicy,
    Router,
    Session,
    Settings,
    Update,
)
from bus.stores.collections import Target


class Count(Command):
    """Changes a document and nothing else."""

    article: str
    pieces: list[int] = Field(default_factory=lambda: [1])


class Counted(BaseModel):
    article: str
    left: int


class Reprice(Command):
    """Changes two aggregates, a document and a stream that is named; sends a command."""

    market: str
    article: str
    price: int


class Announce(Command):
    """Publishes to the streams that it names, without a session."""

    streams: list[str]
    price: int = 1


class Note(Command):
    text: str


class PriceSet(Event):
    article: str
    price: int


class Repriced(Event):
    price: int


class Article(Aggregate):
    price: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Repriced():
                self.price = event.price


class Market(Aggregate):
    prices: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case PriceSet():
                self.prices += 1


class PriceList:
    """What belongs to no aggregate: a category that names its streams."""

    category = "price_list"


class PriceListView(BaseModel):
    id: str
    prices: dict[str, int] = {}
    changes: int = 0


class GetPriceList(Query[PriceListView | None]):
    market: str


class Probe:
    """What a test does within a handler, and how often handlers ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.pieces: list[list[int]] = []
        self.meanwhile: Callable[[Session], Awaitable[Any]] = _nothing


async def _nothing(session: Session) -> None:
    await asyncio.sleep(0)


ONCE = RetryPolicy(tries=1, delays=())


def build(
    settings: Settings, probe: Probe | None = None, service: str = "pricing", **more: Any
) -> Bus:
    """The bus of the prices; a fresh set of routers each time."""
    probe = probe or Probe()
    prices, listening = Router("prices", retry=ONCE), Router("listening", retry=ONCE)
    lists = Projection("price_lists", of=[PriceList], view=PriceListView)

    @prices.command
    async def count(command: Count, session: Session, probe: Probe) -> Counted:
        probe.runs += 1
        probe.pieces.append(list(command.pieces))
        stock = session.documents("stock")
        found = await stock.find_one({"_id": command.article})
        left = found["left"] if found else 0
        while command.pieces:
            left += command.pieces.pop()
        await stock.update(command.article, {"$set": {"left": left}})
        await probe.meanwhile(session)
        return Counted(article=command.article, left=left)

    @prices.command
    async def reprice(
        command: Reprice,
        session: Session,
        articles: Repository[Article],
        markets: Repository[Market],
        outbox: Outbox,
        probe: Probe,
    ) -> int:
        probe.runs += 1
        article: Article = await _of(articles, Article, command.article)
        market: Market = await _of(markets, Market, command.market)
        changed = PriceSet(article=command.article, price=command.price)
        article.record(Repriced(price=command.price))
        market.record(changed)
        outbox.publish(changed, stream=f"price_list-{command.market}")
        outbox.send(Note(text=command.article))
        await session.documents("totals").update("all", {"$inc": {"changes": 1}})
        await probe.meanwhile(session)
        return market.prices

    @prices.command
    async def announce(command: Announce, outbox: Outbox, probe: Probe) -> None:
        probe.runs += 1
        for stream in command.streams:
            outbox.publish(PriceSet(article="a", price=command.price), stream=stream)

    @prices.command
    async def note(command: Note, session: Session) -> None:
        await session.documents("notes").update(command.text, {"$inc": {"times": 1}})

    @listening.event
    async def on_repriced(event: Repriced, outbox: Outbox) -> None:
        outbox.publish(PriceSet(article="heard", price=event.price), stream="hearsay-all")

    @lists.on(PriceSet)
    def price_set(event: PriceSet) -> Update:
        return {"$set": {f"prices.{event.article}": event.price}, "$inc": {"changes": 1}}

    @prices.query
    async def get_price_list(
        query: GetPriceList, documents: Documents[PriceListView]
    ) -> PriceListView | None:
        return await documents.get(query.market)

    return Bus(
        service,
        routers=[prices, listening],
        projections=[lists],
        settings=settings,
        provide={Probe: probe},
        **more,
    )


async def _of(repository: Repository[Any], kind: type[Any], id: str) -> Any:
    found = await repository.find(id)
    if found is None:
        found = kind(id)
        repository.add(found)
    return found


async def all_of(bus: Bus, collection: str) -> list[dict[str, Any]]:
    """What stands in a collection of the service's own."""
    return await bus.runtime.collections.documents(Target("", collection, False)).find({})


async def versions_of(bus: Bus, stream: str) -> list[tuple[int, dict[str, Any]]]:
    """A stream's events by their versions."""
    commits = await bus.runtime.event_log.read(stream)
    return [
        (commit.first + place, event.data)
        for commit in commits
        for place, event in enumerate(commit.events)
    ]
