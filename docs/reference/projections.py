"""Projections: read collections, kept equal to the fold of events, and their queries."""

from collections.abc import Sequence
from decimal import Decimal
from functools import partial

from pydantic import BaseModel

from bus import Delete, Documents, Envelope, Index, Projection, Query, Router, Update
from reference.aggregates import Order
from reference.messages import (
    OrderCancelled,
    OrderId,
    OrderPlaced,
    OrderShipped,
    Page,
    Paged,
    PriceSet,
)


class OrderView(BaseModel):
    """What a reader gets; `id` is the key of the document."""

    id: str
    customer: str = ""
    status: str = "open"
    total: str = "0"


orders = Projection(
    "orders",
    of=[Order],
    view=OrderView,
    version=1,
    partitions=2,
    indexes=[Index((("customer", 1), ("_id", 1)))],
)


@orders.on(OrderPlaced)
def placed(event: OrderPlaced, envelope: Envelope) -> Update:
    """An update of the document of the aggregate, which need not be there yet."""
    total = sum((line.price * line.quantity for line in event.lines), Decimal(0))
    return {"$set": {"customer": event.customer, "total": str(total), "since": envelope.time}}


def becomes(event: OrderShipped | OrderCancelled, *, status: str) -> Update:
    return {"$set": {"status": status}}


orders.on(OrderShipped)(partial(becomes, status="shipped"))
orders.on(OrderCancelled)(partial(becomes, status="cancelled"))


class CustomerView(BaseModel):
    id: str
    open: int = 0


customers = Projection("customers", of=[Order], view=CustomerView)


@customers.on(OrderPlaced, key=lambda event: event.customer)
def one_more(event: OrderPlaced) -> Update:
    """`key=` names another document than that of the aggregate."""
    return {"$inc": {"open": 1}}


class PriceList:
    """A category without an aggregate: its streams are named by those who publish to them."""

    category = "price_list"


class PriceListView(BaseModel):
    id: str
    prices: dict[str, str] = {}


price_lists = Projection("price_lists", of=[PriceList], view=PriceListView)


@price_lists.on(PriceSet)
def priced(event: PriceSet) -> Update:
    """The document is the one with the stream's id: `eur` of `price_list-eur`."""
    return {"$set": {f"prices.{event.article}": str(event.price)}}


class ArticleView(BaseModel):
    id: str
    sold: int = 0


articles = Projection("articles", of=[Order], view=ArticleView)


@articles.on(OrderPlaced)
def sold(event: OrderPlaced) -> list[tuple[str, Update]]:
    """Several documents: a list of (key, change) pairs."""
    return [(line.article, {"$inc": {"sold": line.quantity}}) for line in event.lines]


class OpenView(BaseModel):
    id: str
    customer: str


open_orders = Projection("open_orders", of=[Order], view=OpenView)


@open_orders.on(OrderPlaced, OrderShipped, OrderCancelled, key=lambda event: event.order_id)
def open_or_not(event: OrderPlaced | OrderShipped | OrderCancelled) -> Update | Delete | None:
    """Several events; an update, `Delete()`, or None for no change."""
    match event:
        case OrderPlaced():
            return {"$set": {"customer": event.customer}}
        case OrderShipped() | OrderCancelled():
            return Delete()


class SpentView(BaseModel):
    id: str
    total: str = "0"


spent = Projection("spent", of=[Order], view=SpentView)


@spent.on(OrderPlaced)
async def spend(event: OrderPlaced, *, documents: Documents[SpentView]) -> None:
    """Async: it reads and changes the documents itself, within the batch's transaction."""
    before = await documents.get(event.customer)
    total = sum((line.price * line.quantity for line in event.lines), Decimal(0))
    total += Decimal(before.total) if before else 0
    await documents.update(event.customer, {"$set": {"total": str(total)}})


# Queries


class GetOrder(Query[OrderView | None]):
    order_id: OrderId


class ListOrders(Paged[OrderView]):
    customer: str


class GetPrices(Query[PriceListView | None]):
    market: str


class CountOpen(Query[int]):
    pass


queries = Router("order_queries")


@queries.query
async def get_order(query: GetOrder, documents: Documents[OrderView]) -> OrderView | None:
    return await documents.get(query.order_id)


@queries.query
async def list_orders(query: ListOrders, documents: Documents[OrderView]) -> Page[OrderView]:
    found = {"customer": query.customer}
    items: Sequence[OrderView] = await documents.find(
        found, sort=[("_id", 1)], skip=query.skip, limit=query.limit
    )
    return Page(items=list(items), total=await documents.count(found))


@queries.query
async def count_open(query: CountOpen, documents: Documents[OpenView]) -> int:
    return await documents.count({})


@queries.query
async def get_prices(query: GetPrices, documents: Documents[PriceListView]) -> PriceListView | None:
    return await documents.get(query.market)
