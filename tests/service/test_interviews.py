"""Interviews, which are stored by their state, and the rooms that are booked for them."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from bus import Bus, Projections, Receipt, Settings, Worker
from bus.stores.collections import Target
from handlers import app, applications_app, jobs_app
from handlers.rooms_in_mongodb import BOOKINGS
from handlers.rooms_in_sql import make_table, table
from tests.databases import drop
from tests.waiting import until
from write_models.applications import (
    Application,
    ApplicationIsClosed,
    CloseApplication,
    SubmitApplication,
)
from write_models.interviews import CallOffInterviews, Interview, PlanInterview, RoomIsTaken
from write_models.jobs import ArchiveJob, PostJob

NINE, TEN = "2026-03-02 09:00", "2026-03-02 10:00"

Booked = Mapping[tuple[str, str], str]
"""The interviews by room and hour."""


def plan(
    interview_id: str,
    application_id: str = "a1",
    interviewer: str = "grace",
    room: str = "blue",
    hour: str = NINE,
) -> PlanInterview:
    return PlanInterview(
        interview_id=interview_id,
        application_id=application_id,
        interviewer=interviewer,
        room=room,
        hour=hour,
    )


ABSENT = CallOffInterviews(by="interviewer", value="grace", reason="absent")


async def apply(applications: Bus, posted: Receipt, *ids: str) -> None:
    for id in ids:
        command = SubmitApplication(application_id=id, job_id="j1", applicant="ada", letter="-")
        await applications.execute(command, after=posted, timeout=30)


async def heads(bus: Bus, *streams: str) -> dict[str, int]:
    return await bus.runtime.event_log.heads(streams)


class Interviews:
    """Subclasses give `settings`, complete and with a database of its own."""

    @pytest.fixture
    async def bus(self, settings: Settings, unique: str) -> AsyncIterator[Bus]:
        async with app.build(settings, unique) as bus, Worker(bus):
            job = PostJob(job_id="j1", title="Signaller", description="Nights.")
            await apply(bus, await bus.execute(job), "a1", "a2", "a3")
            yield bus

    async def booked(self, bus: Bus, settings: Settings) -> Booked:
        rows = await bus.runtime.collections.documents(Target("", BOOKINGS, False)).find({})
        return {(row["room"], row["hour"]): row["interview_id"] for row in rows}

    async def test_an_interview_its_invitation_and_its_room_are_one(
        self, bus: Bus, settings: Settings
    ) -> None:
        receipt = await bus.execute(plan("i1"), id="once")
        assert receipt.versions == {"application-a1": 2, "interview-i1": 1}
        assert await bus.execute(plan("i1"), id="once") == receipt
        assert await self.booked(bus, settings) == {("blue", NINE): "i1"}

    async def test_a_room_is_booked_once_however_many_want_it(
        self, bus: Bus, settings: Settings
    ) -> None:
        commands = [plan(f"i{number}", f"a{number}") for number in (1, 2, 3)]
        outcomes = await asyncio.gather(*map(bus.execute, commands), return_exceptions=True)
        assert [type(one) for one in outcomes].count(RoomIsTaken) == 2, outcomes
        (first,) = [one.result for one in outcomes if isinstance(one, Receipt)]
        assert await self.booked(bus, settings) == {("blue", NINE): first}
        streams = [f"interview-i{n}" for n in (1, 2, 3)] + [f"application-a{n}" for n in (1, 2, 3)]
        found = await heads(bus, *streams)
        assert sum(found.values()) == 3 + 2

    async def test_rooms_and_hours_of_others_are_free(self, bus: Bus, settings: Settings) -> None:
        others = [("blue", NINE), ("Blue", NINE), ("blue", TEN)]
        for number, (room, hour) in enumerate(others):
            await bus.execute(plan(f"i{number}", room=room, hour=hour))
        assert (await self.booked(bus, settings)).keys() == set(others)

    async def test_all_interviews_of_who_is_absent_are_called_off_and_their_rooms_are_free(
        self, bus: Bus, settings: Settings
    ) -> None:
        for number, room in enumerate(("blue", "red", "green")):
            await bus.execute(plan(f"i{number}", room=room))
        await bus.execute(plan("other", "a2", "barbara", "white"))
        assert (await bus.execute(ABSENT)).result == 3
        assert await self.booked(bus, settings) == {("white", NINE): "other"}
        again = await bus.execute(ABSENT)
        assert (again.result, again.versions) == (0, {})
        await bus.execute(plan("i9", "a2"))
        assert (await self.booked(bus, settings))["blue", NINE] == "i9"

    async def test_interviews_are_called_off_while_others_are_planned(
        self, bus: Bus, settings: Settings
    ) -> None:
        """What is planned afterwards has its room, and what is not planned any more has none."""
        planned = [plan(f"i{number}", room=f"r{number % 4}") for number in range(12)]
        commands = [bus.execute(one) for one in planned] + [bus.execute(ABSENT) for _ in range(3)]
        await asyncio.gather(*commands, return_exceptions=True)
        states = await bus.runtime.event_log.states(Interview.category, {"status": "planned"}, 100)
        kept = {one.stream for one in states}
        assert {f"interview-{id}" for id in (await self.booked(bus, settings)).values()} == kept

    async def test_a_closed_application_has_no_interviews(
        self, bus: Bus, settings: Settings
    ) -> None:
        await bus.execute(plan("i1"))
        await bus.execute(plan("i2", "a2", room="red"))
        await bus.execute(CloseApplication(application_id="a1", reason="withdrawn"))
        with pytest.raises(ApplicationIsClosed):
            await bus.execute(plan("i3", room="green"))

        async def free() -> bool:
            return await self.booked(bus, settings) == {("red", NINE): "i2"}

        await until(free, "the interview is called off", within=30)
        await bus.execute(ArchiveJob(job_id="j1"))

        async def all_free() -> bool:
            return not await self.booked(bus, settings)

        await until(all_free, "the interviews of an archived job are called off", within=30)


class TestInterviewsInMemory(Interviews):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()


class TestInterviewsInMongoDB(Interviews):
    @pytest.fixture
    async def settings(self, real_settings: Settings) -> AsyncIterator[Settings]:
        yield real_settings
        await drop(real_settings.mongo_url, real_settings.mongo_db)


class TestInterviewsInSQL(Interviews):
    """The log and the bookings are in SQL, the read models in MongoDB."""

    @pytest.fixture
    async def settings(self, real_settings: Settings, sql_url: str) -> AsyncIterator[Settings]:
        await make_table(sql_url)
        yield real_settings.model_copy(update={"log_url": sql_url})
        await drop(real_settings.mongo_url, real_settings.mongo_db)

    async def booked(self, bus: Bus, settings: Settings) -> Booked:
        return await booked_in(settings.log_url)


async def booked_in(log_url: str) -> Booked:
    engine = create_async_engine(log_url)
    async with AsyncSession(engine) as session:
        rows = (await session.execute(sa.select(table))).all()
    await engine.dispose()
    return {(row.room, row.hour): row.interview_id for row in rows}


async def test_the_applications_alone_may_have_their_log_in_sql(
    real_settings: Settings, sql_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two services: the jobs' log is in MongoDB, that of the applications beside their table."""
    names = {"JOBS_SERVICE": f"{unique}_jobs", "APPLICATIONS_SERVICE": f"{unique}_applications"}
    for variable, name in names.items():
        monkeypatch.setenv(variable, name)
    of_jobs, of_applications = (
        real_settings.model_copy(update={"mongo_db": name}) for name in names.values()
    )
    of_applications = of_applications.model_copy(update={"log_url": sql_url})
    await make_table(sql_url)
    jobs, applications = jobs_app.build(of_jobs), applications_app.build(of_applications)
    try:
        async with jobs, applications, Worker(jobs), Worker(applications):

            async def built() -> bool:
                status = await Projections(applications).status()
                return all(one.state == "read" for one in status)

            await until(built, "the applications know the history of the jobs", within=60)
            job = PostJob(job_id="j1", title="Signaller", description="Nights.")
            await apply(applications, await jobs.execute(job), "a1")
            await applications.execute(plan("i1"))
            assert await booked_in(sql_url) == {("blue", NINE): "i1"}
            await jobs.execute(ArchiveJob(job_id="j1"))

            async def free() -> bool:
                return not await booked_in(sql_url)

            await until(free, "the interview of an archived job is called off", within=60)
            commits = await applications.runtime.event_log.read(f"{Application.category}-a1")
            assert [event.name for commit in commits for event in commit.events] == [
                "ApplicationSubmitted", "ApplicantInvited", "ApplicationClosed",
            ]  # fmt: skip
            assert await heads(jobs, "application-a1") == {}
    finally:
        await drop(real_settings.mongo_url, *names.values())
