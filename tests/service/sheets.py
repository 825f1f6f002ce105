"""A service whose projections are tables: jobs with their applications, and totals by city."""

from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Increment,
    Projection,
    Query,
    Remove,
    Repository,
    Router,
    Settings,
    Update,
    Upsert,
)
from bus.stores.sql import SqlTable
from tools.services import statements


class Post(Command):
    job_id: str
    title: str
    city: str = "Bonn"


class Apply(Command):
    job_id: str


class Close(Command):
    job_id: str


class Posted(Event):
    job_id: str
    title: str
    city: str


class Applied(Event):
    city: str


class Closed(Event):
    pass


class Job(Aggregate):
    city: str = ""

    def apply(self, event: Event) -> None:
        match event:
            case Posted():
                self.city = event.city
            case Applied() | Closed():
                pass


class Row(BaseModel):
    """A job as the table has it."""

    id: str
    title: str
    applications: int = 0


class GetJob(Query[Row | None]):
    job_id: str


class CountJobs(Query[int]):
    pass


class CityTotal(Query[int]):
    city: str


def commands() -> Router:
    router = Router("sheets")

    @router.command
    async def post(command: Post, jobs: Repository[Job]) -> None:
        job = Job(command.job_id)
        job.record(Posted(job_id=command.job_id, title=command.title, city=command.city))
        jobs.add(job)

    @router.command
    async def apply(command: Apply, jobs: Repository[Job]) -> None:
        job = await jobs.get(command.job_id)
        job.record(Applied(city=job.city))

    @router.command
    async def close(command: Close, jobs: Repository[Job]) -> None:
        (await jobs.get(command.job_id)).record(Closed())

    return router


def jobs_table(name: str = "jobs_table", *further: sa.Column[Any], most: int = 40) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("title", sa.String(most), nullable=False, index=True),
        sa.Column("applications", sa.Integer, nullable=False, default=0),
        *further,
    )


def totals_table() -> sa.Table:
    return sa.Table(
        "totals",
        sa.MetaData(),
        sa.Column("city", sa.String(60), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("count", sa.Integer, nullable=False, default=0),
    )


def in_table(event: Posted) -> Upsert:
    return Upsert(title=event.title)


def jobs_of(
    url: str, table: sa.Table | None = None, *, posted: Any = in_table, **options: Any
) -> Projection[Any]:
    """A row for each job."""
    table = jobs_table() if table is None else table
    sink = SqlTable(table, url=lambda: url)
    projection: Projection[Any] = Projection(table.name, of=[Job], sink=sink, **options)
    projection.on(Posted)(posted)

    @projection.on(Applied)
    def applied(event: Applied) -> Increment:
        return Increment(applications=1)

    @projection.on(Closed)
    def closed(event: Closed) -> Remove:
        return Remove()

    return projection


def totals_of(url: str, **options: Any) -> Projection[Any]:
    """Rows that all jobs of a city feed."""
    sink = SqlTable(totals_table(), url=url)
    projection: Projection[Any] = Projection("totals", of=[Job], sink=sink, **options)

    @projection.on(Posted, key=lambda event: (event.city, "jobs"))
    def posted(event: Posted) -> Increment:
        return Increment(count=1)

    @projection.on(Applied)
    def applied(event: Applied) -> list[tuple[tuple[str, str], Increment]]:
        return [((event.city, "applications"), Increment(count=1))]

    return projection


class JobView(BaseModel):
    id: str
    title: str


def in_documents(**options: Any) -> Projection[JobView]:
    """The same jobs, as documents."""
    projection = Projection("jobs_table", of=[Job], view=JobView, **options)

    @projection.on(Posted)
    def posted(event: Posted) -> Update:
        return {"$set": {"title": event.title}}

    return projection


def queries(jobs: Projection[Any], totals: Projection[Any] | None = None) -> Router:
    router = Router("reading")
    if jobs.sink is None:

        @router.query
        async def from_documents(query: GetJob, jobs: Documents[JobView]) -> Row | None:
            found = await jobs.get(query.job_id)
            return Row(id=found.id, title=found.title) if found else None

        return router

    @router.query
    async def get_job(
        query: GetJob,
        session: Annotated[AsyncSession, jobs],
        table: Annotated[sa.Table, jobs],
    ) -> Row | None:
        found = await session.execute(sa.select(table).where(table.c.id == query.job_id))
        row = found.mappings().one_or_none()
        return Row.model_validate(row) if row else None

    @router.query
    async def count_jobs(
        query: CountJobs,
        session: Annotated[AsyncSession, jobs],
        table: Annotated[sa.Table, jobs],
    ) -> int:
        return await session.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    if totals is not None:

        @router.query
        async def city_total(
            query: CityTotal,
            session: Annotated[AsyncSession, totals],
            table: Annotated[sa.Table, totals],
        ) -> int:
            wanted = sa.select(sa.func.sum(table.c.count)).where(table.c.city == query.city)
            return int(await session.scalar(wanted) or 0)

    return router


def build(settings: Settings, service: str, *projections: Projection[Any]) -> Bus:
    jobs = next(one for one in projections if one.name == "jobs_table")
    totals = next((one for one in projections if one.name == "totals"), None)
    routers = [commands(), queries(jobs, totals)]
    return Bus(service, routers=routers, projections=projections, settings=settings)


def read(url: str, name: str = "jobs_table", what: str = "id, title, applications") -> list[Any]:
    """The rows that somebody finds who knows nothing of the bus."""
    return sorted(statements.run(url, f"SELECT {what} FROM {name}"))


def expected(jobs: Sequence[str], applications: int = 0) -> list[Any]:
    return sorted((job, f"Job {job}", applications) for job in jobs)
