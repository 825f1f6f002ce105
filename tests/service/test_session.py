import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError, InvalidOperation

from bus import Bus, ProjectionError, Session, Settings
from tests.service.mailing import Post, all_of, build
from tests.service.session_contract import Broken, RedeliveryContract, SessionContract


class TestRedelivery(RedeliveryContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings


class TestSession(SessionContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        """The broker has no part in these."""
        return real_settings.model_copy(update={"amqp_url": "memory://"})

    @pytest.fixture
    async def database(self, settings: Settings) -> AsyncIterator[Any]:
        """The database as an outsider sees it."""
        async with AsyncMongoClient[dict[str, Any]](settings.mongo_url) as client:
            yield client[settings.mongo_db]

    @pytest.fixture(autouse=True)
    def _outside(self, database: Any) -> None:
        self.outside = database

    async def forget(self, bus: Bus) -> None:
        await self.outside["handled"].delete_many({})

    async def test_what_the_driver_writes_in_the_session_belongs_to_it(
        self, bus: Bus, post: Post
    ) -> None:
        async def write(session: Session) -> None:
            await session.database["extra"].insert_one({"_id": "x"}, session=session.native)
            if post.runs == 1:
                raise Broken

        commit = await self.paid(bus)
        post.meanwhile = write
        with pytest.raises(Broken):
            await self.handle(bus, commit)
        assert await all_of(bus, "extra") == []
        for _ in range(3):
            await self.handle(bus, commit)
        assert await all_of(bus, "extra") == [{"_id": "x"}]
        await self.assert_happened_once(bus, commit)

    async def test_an_error_of_the_driver_is_the_handlers_own(self, bus: Bus, post: Post) -> None:
        """And no outage, on which a worker would wait for ever."""

        async def collide(session: Session) -> None:
            for _ in range(2):
                await session.database["extra"].insert_one({"_id": "x"}, session=session.native)

        post.meanwhile = collide
        commit = await self.paid(bus)
        with pytest.raises(DuplicateKeyError):
            await self.handle(bus, commit)
        assert post.runs == 1
        await self.assert_nothing_happened(bus)

    async def test_an_error_that_the_handler_swallows_is_told(self, bus: Bus, post: Post) -> None:
        async def swallow(session: Session) -> None:
            for _ in range(2):
                with suppress(DuplicateKeyError):
                    await session.database["extra"].insert_one({"_id": "x"}, session=session.native)

        post.meanwhile = swallow
        commit = await self.paid(bus)
        with pytest.raises(ProjectionError, match="swallowed"):
            await self.handle(bus, commit)
        assert post.runs < 10
        await self.assert_nothing_happened(bus)

    async def test_an_operation_that_is_under_way_when_the_handler_ends_is_refused(
        self, bus: Bus, post: Post
    ) -> None:
        tasks: list[asyncio.Task[None]] = []

        async def forget(session: Session) -> None:
            update = session.documents("offers").update("k", {"$set": {"n": 1}})
            tasks.append(asyncio.create_task(update))
            await asyncio.sleep(0)

        commit = await self.paid(bus)
        post.meanwhile = forget
        with pytest.raises(ProjectionError, match="ended while an operation of its session was"):
            await self.handle(bus, commit)
        assert all(task.done() for task in tasks)
        await self.assert_nothing_happened(bus)
        assert await all_of(bus, "offers") == []
        post.meanwhile = Post().meanwhile
        await self.handle(bus, commit)
        await self.assert_happened_once(bus, commit)

    async def test_the_drivers_session_is_ended_with_its_handler_and_never_lent_again(
        self, bus: Bus, post: Post
    ) -> None:
        given: list[Any] = []

        async def take(session: Session) -> None:
            native = session.native
            given.append((native, session.database))
            await session.database["extra"].insert_one({"_id": post.runs}, session=native)
            if post.runs == 2:
                raise Broken

        post.meanwhile = take
        for wallet in ("a", "b", "c"):
            with suppress(Broken):
                await self.handle(bus, await self.paid(bus, wallet))
            native, database = given[-1]
            with pytest.raises(InvalidOperation, match="ended"):
                await database["extra"].insert_one({"_id": "late"}, session=native)
        assert len({id(native) for native, _ in given}) == 3
        assert await all_of(bus, "extra") == [{"_id": 1}, {"_id": 3}]
        post.meanwhile = Post().meanwhile
        await self.handle(bus, await self.paid(bus, "d"))
        (own,) = await self.outside["writers"].find({}).to_list()
        assert len(own["sessions"]) == 1

    async def test_the_window_follows_the_setting(
        self, settings: Settings, unique: str, bus: Bus
    ) -> None:
        assert await self.windows() == [14 * 24 * 3600]
        shorter = settings.model_copy(update={"handled_for": 3600})
        async with build(shorter, service=unique):
            assert await self.windows() == [3600]

    async def windows(self) -> list[int]:
        indexes = await self.outside["handled"].index_information()
        return [one["expireAfterSeconds"] for one in indexes.values() if len(one) > 2]

    async def test_a_worker_that_leaves_signs_off(
        self, make: Callable[[], Bus], post: Post
    ) -> None:
        async with make() as bus:
            await self.handle(bus, await self.paid(bus))
            (own,) = await self.outside["writers"].find({}).to_list()
            assert len(own["sessions"]) == 1
        assert await self.outside["writers"].find({}).to_list() == []


class TestSessionWithAClientOfTheServicesOwn(TestSession):
    """PyMongo's asynchronous client instead of motor's."""

    @pytest.fixture
    async def client(self, mongo_url: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
        async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
            yield client

    @pytest.fixture
    def make(
        self,
        settings: Settings,
        post: Post,
        unique: str,
        client: AsyncMongoClient[dict[str, Any]],
    ) -> Callable[..., Bus]:
        return lambda: build(settings, post, unique, client=client)
