"""An index that exists otherwise than it is declared is a problem of its projection alone."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel
from pymongo import AsyncMongoClient

from bus import Bus, ConfigurationError, Index, Projection, Settings, Update, Worker
from bus.stores.collections import Target
from tests.service.wallet import Paid, Pay, Wallet, build
from tests.waiting import problems, until


class Owed(BaseModel):
    paid: bool = False


def with_index(settings: Settings, service: str, index: Index) -> Bus:
    """The wallets, and one more projection that declares an index."""
    owed = Projection("owed", of=[Wallet], view=Owed, indexes=[index])

    @owed.on(Paid)
    def paid(event: Paid) -> Update:
        return {"$set": {"paid": True}}

    return build(settings, service=service, also=[owed])


@pytest.fixture
def settings(real_settings: Settings) -> Settings:
    """The broker has no part in these."""
    return real_settings.model_copy(update={"amqp_url": "memory://"})


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Any]:
    async with AsyncMongoClient[dict[str, Any]](settings.mongo_url) as client:
        yield client[settings.mongo_db]


async def told_of(bus: Bus) -> dict[str, str]:
    return {one.part: one.what for one in await problems(bus)}


async def test_a_changed_index_is_told_with_its_remedy_and_all_projections_go_on(
    settings: Settings, unique: str, database: Any
) -> None:
    plain = Index((("paid", 1),))
    async with with_index(settings, unique, plain) as bus:
        assert await told_of(bus) == {}
    async with with_index(settings, unique, plain._replace(unique=True)) as bus, Worker(bus):
        await bus.execute(Pay(wallet_id="a", amount=1))
        collections = bus.runtime.collections
        for name in ("owed", "wallets"):
            documents = collections.documents(Target(name, f"{name}__v1", True))
            await until(partial(documents.find_one, {"_id": "a"}), f"{name} goes on")
        told = await told_of(bus)
        assert "'paid_1' of the collection 'owed__v1'" in told["collection owed"]
        assert "db.getCollection('owed__v1').dropIndex('paid_1')" in told["collection owed"]
        await database["owed__v1"].drop_index("paid_1")

        async def mended() -> bool:
            return await told_of(bus) == {}

        await until(mended, "it is made anew")
        assert (await database["owed__v1"].index_information())["paid_1"]["unique"]


async def test_an_index_that_documents_do_not_allow_is_told(
    settings: Settings, unique: str, database: Any
) -> None:
    await database["owed__v1"].insert_many([{"paid": True}, {"paid": True}])
    index = Index((("paid", 1),), unique=True)
    async with with_index(settings, unique, index) as bus:
        assert "hold the same twice" in (await told_of(bus))["collection owed"]


async def test_an_index_of_the_log_that_exists_otherwise_is_told_with_its_remedy(
    settings: Settings, unique: str, database: Any
) -> None:
    await database["commits"].create_index([("stream", 1), ("first", 1)])
    remedy = r"db.getCollection\('commits'\).dropIndex\('stream_1_first_1'\).*start again"
    with pytest.raises(ConfigurationError, match=remedy):
        await build(settings, service=unique).__aenter__()
