"""Databases of tests: what a test wrote goes with it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient, MongoClient

from bus.stores.mongo import close
from tests.servers import lent
from tools.faults.mongo_set import guards, make_administrator
from tools.services.mongodb import MongoNode


async def drop(mongo_url: str, *databases: str) -> None:
    """Drops databases; its client is closed even where that fails."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_url)
    async with client:
        for name in databases:
            await client.drop_database(name)


@asynccontextmanager
async def lent_client(client: Any) -> AsyncIterator[Any]:
    """A client of either driver, which is closed after the block, however that ends."""
    try:
        yield client
    finally:
        await close(client)


@contextmanager
def guarded_node(folder: Path) -> Iterator[MongoNode]:
    """A node that asks who comes, with an administrator: "root", whose password is "root"."""
    with lent(MongoNode(folder, flags=guards(folder))) as node:
        with MongoClient[dict[str, Any]](node.url) as client:
            make_administrator(client)
        yield node


def url_of(node: MongoNode, user: str, password: str) -> str:
    """The node's URL for a user that it knows."""
    return node.url.replace("//", f"//{user}:{password}@") + "&authSource=admin"
