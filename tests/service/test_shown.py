"""Under a projection's name, whoever reads MongoDB without the bus finds what its readers read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from bus import Bus, Settings, Worker
from bus.delivery import projection_runner
from bus.operate.projections import Projections
from bus.stores.control import Note
from tests.service.rebuild_contract import Brisk, CountPurses, Pay, paid_into, service
from tests.waiting import until

Rows = list[dict[str, Any]]


class TestShown(Brisk):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        """The broker has no part in these."""
        return real_settings.model_copy(update={"amqp_url": "memory://"})

    @pytest.fixture
    def make(self, settings: Settings, unique: str) -> Callable[..., Bus]:
        return partial(service, settings, unique)

    @pytest.fixture
    async def database(self, settings: Settings) -> AsyncIterator[Database[dict[str, Any]]]:
        with MongoClient[dict[str, Any]](settings.mongo_url) as client:
            yield client[settings.mongo_db]

    async def until_shown(
        self, database: Database[dict[str, Any]], name: str, *rows: dict[str, Any]
    ) -> None:
        def shown() -> bool:
            return list(database[name].find(sort=[("_id", 1)])) == list(rows)

        await until(shown, f"{name} shows {rows}", within=30)

    async def test_a_script_reads_by_the_projections_name_whatever_readers_read(
        self, make: Callable[..., Bus], database: Database[dict[str, Any]]
    ) -> None:
        async with make() as bus, Worker(bus):
            await paid_into(bus, 2)
            one, two = ({"_id": f"p{n}", "total": 1} for n in range(2))
            await self.until_shown(database, "purses", one, two)
            await self.until_shown(database, "banks", {"_id": "b", "total": 2})
        async with make(version=2) as bus, Worker(bus):
            one, two = ({"_id": f"p{n}", "total": 100} for n in range(2))
            await self.until_shown(database, "purses", one, two)
            await self.until_shown(database, "banks", {"_id": "b", "total": 200})
            receipt = await paid_into(bus, 1)
            assert await bus.query(CountPurses(), after=receipt) == 2
            assert database["purses"].find_one({"_id": "p0"}) == {"_id": "p0", "total": 200}
        kinds = {one["name"]: one["type"] for one in database.list_collections()}
        assert (kinds["purses"], kinds["purses__v1"]) == ("view", "collection")

    async def test_it_follows_readers_back(
        self, make: Callable[..., Bus], database: Database[dict[str, Any]]
    ) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(CountPurses(), after=await paid_into(bus, 1))
            collection = await Projections(bus).rebuild("purses")
            await until(partial(self.shows, database, collection), "readers have moved", within=30)
            await until(partial(self.rolled_back, bus, "purses"), "readers went back")
            assert self.shows(database, "purses__v1")
            await Projections(bus).drop("purses", collection)
            assert self.shows(database, "purses__v1")

    def shows(self, database: Database[dict[str, Any]], collection: str) -> bool:
        found = list(database.list_collections(filter={"name": "purses", "type": "view"}))
        return [one["options"]["viewOn"] for one in found] == [collection]

    async def test_hidden_documents_do_not_show(
        self, make: Callable[..., Bus], database: Database[dict[str, Any]]
    ) -> None:
        async with make() as bus, Worker(bus):
            await bus.query(CountPurses(), after=await paid_into(bus, 1))
            database["purses__v1"].insert_one({"_id": "gone", "_version": 1, "_hidden": True})
            await self.until_shown(database, "purses", {"_id": "p0", "total": 1})

    async def test_a_view_that_somebody_took_away_is_made_again(
        self,
        make: Callable[..., Bus],
        database: Database[dict[str, Any]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(projection_runner, "SHOW_EVERY", 0.2)
        async with make() as bus, Worker(bus):
            await paid_into(bus, 1)
            await self.until_shown(database, "purses", {"_id": "p0", "total": 1})
            database.drop_collection("purses")
            await self.until_shown(database, "purses", {"_id": "p0", "total": 1})
            database.command("collMod", "purses", viewOn="purses__v9", pipeline=[])
            await self.until_shown(database, "purses", {"_id": "p0", "total": 1})

    @pytest.mark.parametrize("view_on", ["", "elsewhere"])
    async def test_what_has_the_name_already_is_told_and_left_alone(
        self,
        make: Callable[..., Bus],
        database: Database[dict[str, Any]],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        view_on: str,
    ) -> None:
        monkeypatch.setattr(projection_runner, "SHOW_EVERY", 0.0)
        database[view_on or "purses"].insert_one({"_id": "mine"})
        if view_on:
            database.create_collection("purses", viewOn=view_on)
        told = ""

        def is_told() -> bool:
            nonlocal told
            told += capsys.readouterr().err
            return "not_shown_by_name" in told

        async with make() as bus, Worker(bus):
            assert await bus.query(CountPurses(), after=await paid_into(bus, 2)) == 2
            await until(is_told, "the collision is told")
            await asyncio.sleep(1)  # four more turns of the worker's
        told += capsys.readouterr().err
        kind = "view" if view_on else "collection"
        assert f"there is a {kind} of that name" in told
        assert told.count("not_shown_by_name") == 1
        assert list(database["purses"].find()) == [{"_id": "mine"}]

    async def test_a_collection_of_an_earlier_release_makes_way_once_it_is_dropped(
        self,
        make: Callable[..., Bus],
        database: Database[dict[str, Any]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        async with make() as bus:
            control = bus.runtime.control
            note = await control.note("purses")
            former = {**note.value["generations"][0], "collection": "purses"}
            value = {**note.value, "generations": [former], "active": "purses"}
            assert await control.write_note(Note("purses", value, note.revision))
            database.drop_collection("purses__v1")
        told = ""

        def is_told(word: str) -> bool:
            nonlocal told
            told += capsys.readouterr().err
            return word in told

        async with make() as bus, Worker(bus):
            assert await bus.query(CountPurses(), after=await paid_into(bus, 1)) == 1
            await until(partial(is_told, "is of an earlier release"), "the name is told")
            assert await Projections(bus).rebuild("purses") == "purses__v1r2"
            await until(partial(is_told, "there is a collection of that name"), "again", within=30)
            assert database["purses"].count_documents({}) == 1
            await Projections(bus).drop("purses", "purses")
            await bus.execute(Pay(purse_id="p0", amount=4))
            await self.until_shown(database, "purses", {"_id": "p0", "total": 5})
