from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from bus.stores.mongo import MongoCollections, MongoControl, MongoEventLog, close
from bus.testing.contracts.projection_contract import Deposited, ProjectionContract, Stores, banks


class TestProjections(ProjectionContract):
    """On MongoDB, by both drivers."""

    @pytest.fixture(params=[AsyncIOMotorClient, AsyncMongoClient], ids=["motor", "pymongo"])
    async def stores(
        self, request: pytest.FixtureRequest, mongo_url: str, unique: str
    ) -> AsyncIterator[Stores]:
        client: Any = request.param(mongo_url)
        stores = SimpleNamespace(
            event_log=MongoEventLog(client, unique),
            collections=MongoCollections(client, unique),
            control=MongoControl(client, unique),
            rows=client[unique]["checkpoints"],
        )
        opened = (stores.event_log, stores.collections, stores.control)
        for one in opened:
            await one.open()
        yield stores
        for one in opened:
            await one.close()
        await client.drop_database(unique)
        await close(client)

    @pytest.mark.parametrize("version", ["1", None, 1.5, float("nan"), -1, ...])
    async def test_a_checkpoint_without_a_usable_version_parks_its_stream_alone(
        self, stores: Any, version: Any
    ) -> None:
        projection = banks()
        projector = await self.projector(stores, projection)
        for key in ("a", "b"):
            await projector.apply(
                await self.append(stores, f"account-{key}", 1, Deposited(amount=1))
            )
        changed = {} if version is ... else {"version": version}
        row = f"{projection.target().collection}/account-a"
        await stores.rows.replace_one({"_id": row}, changed)

        for key in ("a", "b"):
            await projector.apply(
                await self.append(stores, f"account-{key}", 2, Deposited(amount=1))
            )
        await projector.apply_streams(["account-a", "account-b"])
        (parked,) = await stores.control.parked(projection.target())
        assert (parked.stream, parked.error) == ("account-a", "VersionUnusable")
        assert "rebuild APP banks" in parked.reason
        (bank,) = await self.documents(stores, projection).find({})
        assert bank.total == 3
