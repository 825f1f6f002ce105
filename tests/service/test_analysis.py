"""The job board's tables for analysts, in a SQL database beside documents in MongoDB."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from bus import NotBuilt, Projections, Settings, Worker
from handlers import app
from read_models.analysis import AnalyseJob
from read_models.stores import ANALYSIS
from tests.waiting import until
from write_models.applications import SubmitApplication
from write_models.jobs import ArchiveJob, PostJob


@pytest.fixture
def analysed(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(ANALYSIS, sql_url)
    return sql_url


async def test_what_became_of_a_job_is_in_tables(
    real_settings: Settings, analysed: str, unique: str
) -> None:
    async with app.build(real_settings, unique) as bus, Worker(bus):
        posted = await bus.execute(PostJob(job_id="j1", title="Baker", description="Bread"))
        for number in range(3):
            applied = SubmitApplication(
                application_id=f"a{number}", job_id="j1", applicant="ada", letter="-"
            )
            receipt = await bus.execute(applied, after=posted, timeout=30)
        found = await bus.query(AnalyseJob(job_id="j1"), after=receipt, timeout=30)
        assert found is not None
        assert (found.title, found.open_for) == ("Baker", None)
        assert [(day.day, day.applications) for day in found.days] == [(today(), 3)]
        receipt = await bus.execute(ArchiveJob(job_id="j1"))
        found = await bus.query(AnalyseJob(job_id="j1"), after=receipt, timeout=30)
        assert found is not None
        assert found.open_for is not None
        assert timedelta() < found.open_for < timedelta(minutes=10)
        assert await bus.query(AnalyseJob(job_id="j2")) is None
        assert (await Projections(bus).audit("applications_per_day")).is_right
    assert await joined(analysed) == [("Baker", 3)]


async def joined(url: str) -> list[tuple[str, int]]:
    """Returns what an analyst finds, who knows nothing of the bus."""
    engine = create_async_engine(url)
    ask = "SELECT title, applications FROM applications_per_day JOIN jobs_open USING (job_id)"
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.text(ask))).all()
    await engine.dispose()
    return [(row.title, row.applications) for row in rows]


async def test_a_history_without_tables_is_built_into_them(
    real_settings: Settings, sql_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.build(real_settings, unique) as bus, Worker(bus):
        for number in range(20):
            await bus.execute(PostJob(job_id=f"j{number}", title="Baker", description="Bread"))
    monkeypatch.setenv(ANALYSIS, sql_url)
    async with app.build(real_settings, unique) as bus, Worker(bus):

        async def built() -> bool:
            try:
                return await bus.query(AnalyseJob(job_id="j19")) is not None
            except NotBuilt:
                return False

        await until(built, "the tables are not built")
        assert (await Projections(bus).audit("jobs_open")).is_right


def today() -> object:
    return datetime.now(UTC).date()
