"""What the demo compares beside read documents: states and bookings, as they stand in databases."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from bus import Bus, Settings, Worker
from handlers import app
from handlers.rooms_in_sql import make_table
from tests.databases import drop
from tests.waiting import until
from tools.demo.fold import BOOKINGS, STATES, Document
from tools.demo.verify import Books, Checked
from tools.demo.written import WrittenInMongoDB, WrittenInSQL
from write_models.applications import SubmitApplication
from write_models.interviews import CallOffInterviews, PlanInterview
from write_models.jobs import PostJob

HOUR = "2026-03-02 09:00"


class InMongoDB(WrittenInMongoDB):
    """With what nobody should do by hand."""

    def __init__(self, database: Database[Document]) -> None:
        super().__init__(database)
        self._by_hand = database

    def drop_bookings(self) -> None:
        self._by_hand["bookings"].delete_many({})

    def change_state(self) -> None:
        self._by_hand["states"].update_one({"_id": "interview-i2"}, {"$set": {"state.room": "red"}})


class InSQL(WrittenInSQL):
    """With what nobody should do by hand."""

    def drop_bookings(self) -> None:
        self._run("DELETE FROM bookings")

    def change_state(self) -> None:
        which = "WHERE stream = 'interview-i2'"
        ((state,),) = self._run(f"SELECT state FROM bus_states {which}")
        self._run(f"UPDATE bus_states SET state = '{state.replace('blue', 'red')}' {which}")


class Stored:
    """What a job board has stored, told by the demo's books."""

    def __init__(self, database: Database[Document], written: InMongoDB | InSQL) -> None:
        self.written = written
        self._books = Books(database, written)

    async def check(self) -> Checked:
        return await asyncio.to_thread(self._books.check)

    async def different(self) -> set[tuple[str, str, str]]:
        return {(one.collection, one.key, one.field) for one in (await self.check()).differences}


@pytest.fixture
def database(mongo_url: str, unique: str) -> Iterator[Database[Document]]:
    with MongoClient[Document](mongo_url, tz_aware=True) as client:
        yield client[unique]


@pytest.fixture(params=["mongodb", "postgresql", "mariadb"])
async def stored(
    request: pytest.FixtureRequest, mongo_url: str, unique: str, database: Database[Document]
) -> AsyncIterator[Stored]:
    """The log and what is beside it, on each server in turn."""
    settings = Settings(amqp_url="memory://", mongo_url=mongo_url, mongo_db=unique)
    found = Stored(database, InMongoDB(database))
    if request.param != "mongodb":
        url: str = request.getfixturevalue(f"{request.param}_url")
        await make_table(url)
        settings = settings.model_copy(update={"log_url": url})
        found = Stored(database, InSQL(url))
    async with app.build(settings, unique) as bus, Worker(bus):
        await plan_and_call_off(bus)

        async def settled() -> bool:
            checked = await found.check()
            return not (checked.unsettled or checked.differences)

        await until(settled, "all equals the fold of the log", within=60)
        yield found
    await drop(mongo_url, unique)


async def plan_and_call_off(bus: Bus) -> None:
    """Plans two interviews for one application, and calls the first one off."""
    posted = await bus.execute(PostJob(job_id="j1", title="Baker", description="Nights."))
    applied = SubmitApplication(application_id="a1", job_id="j1", applicant="ada", letter="-")
    await bus.execute(applied, after=posted, timeout=30)
    for id, interviewer, room in (("i1", "grace", "green"), ("i2", "ken", "blue")):
        planned = {"interview_id": id, "interviewer": interviewer, "room": room, "hour": HOUR}
        await bus.execute(PlanInterview(application_id="a1", **planned))
    await bus.execute(CallOffInterviews(by="interviewer", value="grace", reason="absent"))


async def test_all_that_is_made_of_the_log_is_compared(stored: Stored) -> None:
    checked = await stored.check()
    assert (checked.count(STATES), checked.count(BOOKINGS)) == (2, 1)
    assert checked.folded.states["i1"]["status"] == "called off"
    assert checked.folded.bookings == {"i2": {"hour": HOUR, "room": "blue"}}
    assert checked.folded.versions["application-a1"] == 3
    assert not checked.folded.gaps


async def test_a_booking_that_is_gone_is_told(stored: Stored) -> None:
    await asyncio.to_thread(stored.written.drop_bookings)
    assert await stored.different() == {("bookings", "i2", "hour"), ("bookings", "i2", "room")}
    checked = await stored.check()
    assert (checked.wrong(BOOKINGS), checked.wrong(STATES)) == (1, 0)


async def test_a_state_that_is_not_what_its_events_make_is_told(stored: Stored) -> None:
    await asyncio.to_thread(stored.written.change_state)
    assert await stored.different() == {("interviews", "i2", "room")}
