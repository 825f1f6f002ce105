"""Services whose projections are tables, on each SQL server: from the command to the view."""

import asyncio
import json
import os
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from bus import Bus, NotBuilt, ProjectionError, Projections, Recovery, Settings, Upsert, Worker
from bus.cli.main import app
from bus.delivery import projection_runner
from bus.operate.projections import CollectionStatus
from bus.testing import shared_memory
from tests.service import sheets
from tests.service.audit_contract import apply_past_the_pause, before_comparing
from tests.service.sheets import (
    Apply,
    CityTotal,
    Close,
    CountJobs,
    GetJob,
    Post,
    Posted,
    Row,
    build,
    expected,
    in_documents,
    jobs_of,
    jobs_table,
    read,
    totals_of,
)
from tests.waiting import in_parts, until
from tools.services import statements

SERVICE = "sheets"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection_runner, "FOLLOW_EVERY", 0.1)


@pytest.fixture
def settings() -> Settings:
    return shared_memory()


async def post(bus: Bus, *jobs: str) -> None:
    await in_parts(bus.execute(Post(job_id=job, title=f"Job {job}")) for job in jobs)


async def read_is(bus: Bus, collection: str, name: str = "jobs_table") -> CollectionStatus:
    async def found() -> CollectionStatus | None:
        rows = await Projections(bus).status(name)
        return next((r for r in rows if r.state == "read" and r.collection == collection), None)

    status: CollectionStatus = await until(found, f"readers at {collection}")
    return status


async def test_a_command_is_in_the_table_its_view_and_the_query_that_waits_for_it(
    settings: Settings, sql_url: str
) -> None:
    async with (
        build(settings, SERVICE, jobs_of(sql_url), totals_of(sql_url)) as bus,
        Worker(bus),
    ):
        assert await bus.query(GetJob(job_id="a")) is None
        await bus.execute(Post(job_id="a", title="Baker"))
        receipt = await bus.execute(Apply(job_id="a"))
        row = await bus.query(GetJob(job_id="a"), after=receipt)
        assert row == Row(id="a", title="Baker", applications=1)
        assert await bus.query(CityTotal(city="Bonn"), after=receipt) == 2
        rows = [("a", "Baker", 1)]
        await until(
            lambda: shown(sql_url, "jobs_table") == rows, "the row under the projection's name"
        )
        assert read(sql_url, "totals", "city, kind, count") == [
            ("Bonn", "applications", 1),
            ("Bonn", "jobs", 1),
        ]
        receipt = await bus.execute(Close(job_id="a"))
        assert await bus.query(GetJob(job_id="a"), after=receipt) is None
        assert await bus.health()


async def test_history_is_built_beside_what_readers_read_and_shown_in_one_step(
    settings: Settings, sql_url: str
) -> None:
    jobs = [f"j{number:03}" for number in range(120)]
    async with build(settings, SERVICE, jobs_of(sql_url)) as bus, Worker(bus):
        await post(bus, *jobs)
        await bus.query(CountJobs(), after=await bus.execute(Apply(job_id="j000")))
        await until(
            lambda: len(shown(sql_url, "jobs_table") or ()) == 120,
            "all under the projection's name",
        )

    def posted(event: Posted) -> Upsert:
        return Upsert(title=event.title, city=event.city)

    more = jobs_table("jobs_table", sa.Column("city", sa.String(60)))
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        while True:
            ((count, total),) = await asyncio.to_thread(
                statements.run, sql_url, "SELECT count(*), sum(applications) FROM jobs_table"
            )
            seen.append((int(count), int(total)))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    second = build(settings, SERVICE, jobs_of(sql_url, more, posted=posted, version=2))
    async with second, Worker(second):
        for job in jobs[:30]:
            await second.execute(Apply(job_id=job))
        await read_is(second, "jobs_table__v2")
        receipt = await second.execute(Apply(job_id="j001"))
        row = await second.query(GetJob(job_id="j001"), after=receipt)
        assert row == Row(id="j001", title="Job j001", applications=2)
        await until(lambda: seen[-1] == (120, 32), "the new table under the projection's name")
    looking.cancel()
    assert seen == sorted(seen)
    assert seen[0][0] == 120
    assert set(read(sql_url, what="city")) == {("Bonn",)}
    assert len(seen) > 10


async def test_a_rebuild_is_gone_back_from_and_dropped_by_command(
    amqp_url: str, sql_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On RabbitMQ, with the log in SQL and no MongoDB at all."""
    monkeypatch.delenv("BUS_MONGO_URL", raising=False)
    for name, value in (("AMQP", amqp_url), ("LOG", sql_url), ("SHEETS", sql_url)):
        monkeypatch.setenv(f"BUS_{name}_URL", value)
    monkeypatch.setenv("SHEETS_SERVICE", unique)
    bus = sheets_app(Settings())

    async def run(*words: str, status: int = 0) -> Any:
        target = "tests.service.test_table_projections:sheets_app"
        command, *arguments = words
        given = ["projections", command, target, *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, given)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout) if "--json" in words else result.stdout

    async with bus, Worker(bus):
        await post(bus, "a", "b", "c")
        await bus.query(CountJobs(), after=await bus.execute(Apply(job_id="a")))
        assert (await run("rebuild", "jobs_table", "--json"))["collection"] == "jobs_table__v1r2"
        statements.run(sql_url, "UPDATE totals__v1 SET count = 9 WHERE kind = 'jobs'")
        found = await run("audit", "totals", "--repair", "--json")
        assert [(one["key"], one["kind"]) for one in found["differences"]] == [
            (["Bonn", "jobs"], "differs")
        ]
        statements.run(sql_url, "UPDATE totals__v1 SET count = 9")
        (part,) = (await run("refold", "totals", "--document", '["Bonn", "jobs"]', "--json"))[
            "differences"
        ]
        assert (part["key"], part["repaired"]) == (["Bonn", "jobs"], True)
        assert ("Bonn", "jobs", 3) in read(sql_url, "totals__v1", "city, kind, count")
        assert (await run("rollback", "jobs_table")).startswith("jobs_table__v1 is read")
        rows = await run("status", "jobs_table", "--json")
        assert {row["collection"]: row["state"] for row in rows} == {
            "jobs_table__v1": "read",
            "jobs_table__v1r2": "kept",
        }
        await run("drop", "jobs_table", "jobs_table__v1r2", "--yes")
        assert shown(sql_url, "jobs_table__v1r2") is None
        assert len(read(sql_url)) == 3
        receipt = await bus.execute(Post(job_id="d", title="Job d"))
        assert await bus.query(CountJobs(), after=receipt) == 4


async def test_an_audit_finds_and_repairs_what_somebody_changed(
    settings: Settings, sql_url: str
) -> None:
    async with build(settings, SERVICE, jobs_of(sql_url), totals_of(sql_url)) as bus, Worker(bus):
        await post(bus, "a", "b", "c")
        await bus.query(CountJobs(), after=await bus.execute(Apply(job_id="a")))
        for change in (
            "UPDATE jobs_table__v1 SET title = 'changed' WHERE id = 'a'",
            "DELETE FROM jobs_table__v1 WHERE id = 'b'",
            "INSERT INTO jobs_table__v1 VALUES ('d', 'stray', 0)",
        ):
            statements.run(sql_url, change)
        found = await Projections(bus).audit("jobs_table", repair=True)
        assert {one.key: one.kind for one in found.differences} == {
            "a": "differs",
            "b": "missing",
            "d": "stray",
        }
        assert found.is_right
        assert read(sql_url, "jobs_table__v1") == [("a", "Job a", 1), *expected(["b", "c"])]
        statements.run(sql_url, "UPDATE totals__v1 SET count = 9")
        part = await Projections(bus).refold("totals", streams=["job-c"])
        assert [one.key for one in part.differences] == [("Bonn", "jobs")]
        (left,) = (await Projections(bus).audit("totals", sample=5)).differences
        assert (left.key, left.fields) == (("Bonn", "applications"), {"count": (9, 1)})
        names = statements.run(sql_url, "SELECT collection FROM bus_tables")
        assert sorted(names) == [("jobs_table__v1",), ("totals__v1",)]


async def test_what_a_late_worker_applies_while_rows_are_repaired_is_not_taken_away(
    settings: Settings, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = "SELECT count FROM totals__v1"
    async with build(settings, SERVICE, jobs_of(sql_url), totals_of(sql_url)) as bus:
        async with Worker(bus):
            await post(bus, "a", "b", "c")
            await until(lambda: statements.run(sql_url, counted) == [(3,)], "three are counted")
        statements.run(sql_url, "UPDATE totals__v1 SET count = 9")

        async def apply() -> None:
            await post(bus, "d")
            await apply_past_the_pause(bus, "totals", "job-d")

        before_comparing(monkeypatch, apply)
        assert (await Projections(bus).audit("totals", repair=True)).is_right
        assert statements.run(sql_url, counted) == [(4,)]


async def test_a_part_is_refused_where_statements_do_not_tell_their_rows(
    settings: Settings, sql_url: str
) -> None:
    jobs = jobs_of(sql_url, posted=by_statement)
    async with build(settings, SERVICE, jobs) as bus, Worker(bus):
        await post(bus, "a", "b")
        await until(lambda: len(read(sql_url, "jobs_table__v1")) == 2, "two rows")
        statements.run(sql_url, "UPDATE jobs_table__v1 SET title = 'changed'")
        with pytest.raises(ProjectionError, match=r"returned a statement of SQL, .*--all"):
            await Projections(bus).refold("jobs_table", streams=["job-a"])
        (part,) = (await Projections(bus).refold("jobs_table", documents=["a"])).differences
        assert (part.key, part.repaired) == ("a", True)
        assert (await Projections(bus).audit("jobs_table", repair=True)).is_right
        assert read(sql_url, "jobs_table__v1") == expected(["a", "b"])


def by_statement(event: Posted, table: sa.Table) -> sa.Insert:
    return sa.insert(table).values(id=event.job_id, title=event.title)


def sheets_app(settings: Settings) -> Bus:
    """The service as commands find it, by the environment."""
    url = os.environ["BUS_SHEETS_URL"]
    return build(settings, os.environ["SHEETS_SERVICE"], jobs_of(url), totals_of(url))


async def test_a_value_that_the_table_refuses_parks_its_stream_until_the_code_is_right(
    settings: Settings, sql_url: str
) -> None:
    long = "a title of more than the forty letters of the table"
    async with build(settings, SERVICE, jobs_of(sql_url)) as bus, Worker(bus):
        await bus.execute(Post(job_id="bad", title=long))
        await bus.query(CountJobs(), after=await bus.execute(Post(job_id="good", title="x")))

        async def parked() -> bool:
            return (await Projections(bus).status("jobs_table"))[0].parked == 1

        await until(parked, "the stream of the long title stands aside")
        target = await bus.runtime.catalogue.target(bus.runtime.projections[0])
        (row,) = await bus.runtime.control.parked(target)
        assert row.stream == "job-bad"
        assert "title" in row.reason
        assert long not in row.reason
        assert read(sql_url, "jobs_table__v1") == [("good", "x", 0)]

    def posted(event: Posted) -> Upsert:
        return Upsert(title=event.title[:40])

    async with build(settings, SERVICE, jobs_of(sql_url, posted=posted)) as bus, Worker(bus):
        rows = partial(read, sql_url, "jobs_table__v1")  # readers are shown it at some later turn
        await until(lambda: len(rows()) == 2, "the row of the stream that was parked")
        assert ("bad", long[:40], 0) in rows()


async def test_a_sweep_brings_what_no_delivery_brought(settings: Settings, sql_url: str) -> None:
    projections = jobs_of(sql_url), totals_of(sql_url)
    async with build(settings, SERVICE, *projections) as bus:
        runtime = bus.runtime
        known = [(one, runtime.catalogue.known(one).generations[0]) for one in projections]
        queues = [queue.name for one in known for queue in runtime.queues_of(*one)]
        await runtime.transport.delete(queues)
        await post(bus, "a", "b")
    async with build(settings, SERVICE, jobs_of(sql_url), totals_of(sql_url)) as bus, Worker(bus):
        rows = expected(["a", "b"])
        await until(lambda: shown(sql_url, "jobs_table") == rows, "what the sweep found")


async def test_partitions_and_two_workers_share_a_table(settings: Settings, sql_url: str) -> None:
    jobs = [f"j{number}" for number in range(40)]

    def make() -> Bus:
        options: dict[str, Any] = {"partitions": 3}
        return build(settings, SERVICE, jobs_of(sql_url, **options), totals_of(sql_url, **options))

    first, second = make(), make()
    async with first, second, Worker(first), Worker(second):
        await post(first, *jobs)
        await in_parts(first.execute(Apply(job_id=job)) for job in jobs for _ in range(3))

        async def whole() -> bool:
            total = await second.query(CityTotal(city="Bonn"))
            return shown(sql_url, "jobs_table") == expected(jobs, 3) and total == 160

        await until(whole, "all jobs with three applications each, and their total")
        assert (await Projections(first).audit("totals")).is_right


async def test_an_emptied_database_is_told_and_built_anew_by_recover(
    settings: Settings, sql_url: str
) -> None:
    async with build(settings, SERVICE, jobs_of(sql_url), totals_of(sql_url)) as bus:
        async with Worker(bus):
            await post(bus, "a", "b", "c")
            await bus.query(CountJobs(), after=await bus.execute(Apply(job_id="a")))
            await until(lambda: len(shown(sql_url, "jobs_table") or ()) == 3, "the view")
        await bus.runtime.continuity.look()
        here = await bus.runtime.continuity.identities()
        await bus.runtime.continuity.note_turn(here, {})
        for kind, name in statements_to_drop(sql_url):
            statements.run(sql_url, f"DROP {kind} {name}")
        await bus.runtime.continuity.look()
        assert "jobs_table__v1" in str(await bus.runtime.continuity.problem())
    async with build(settings, SERVICE, jobs_of(sql_url), totals_of(sql_url)) as bus, Worker(bus):
        plan = await Recovery(bus).run()
        assert set(plan.rebuilt) == {"jobs_table__v1", "totals__v1"}
        assert [row[0] for row in read(sql_url)] == ["a", "b", "c"]
        receipt = await bus.execute(Apply(job_id="a"))
        row = await bus.query(GetJob(job_id="a"), after=receipt)
        assert row == Row(id="a", title="Job a", applications=2)
        assert await bus.runtime.continuity.problem() is None


def statements_to_drop(url: str) -> list[tuple[str, str]]:
    names = ["jobs_table__v1", "totals__v1", "bus_tables", "bus_checkpoints"]
    return [("VIEW", "jobs_table"), ("VIEW", "totals"), *(("TABLE", name) for name in names)]


async def test_a_projection_moves_from_documents_to_a_table_and_back(
    real_settings: Settings, sql_url: str, unique: str
) -> None:
    async with build(real_settings, unique, in_documents()) as bus, Worker(bus):
        receipt = await bus.execute(Post(job_id="a", title="Job a"))
        assert await bus.query(GetJob(job_id="a"), after=receipt) == Row(id="a", title="Job a")
        moved = build(real_settings, unique, jobs_of(sql_url, version=2))
        async with moved, Worker(moved):
            await read_is(moved, "jobs_table__v2")
            receipt = await moved.execute(Post(job_id="b", title="Job b"))
            row = await moved.query(GetJob(job_id="b"), after=receipt)
            assert row == Row(id="b", title="Job b")
            rows = expected(["a", "b"])
            await until(lambda: shown(sql_url, "jobs_table") == rows, "both jobs in the table")
            continuity = moved.runtime.continuity
            await continuity.note_turn(await continuity.identities(), {})

            async def is_told() -> bool:
                try:
                    await bus.query(GetJob(job_id="a"))
                except NotBuilt as error:
                    return "another release" in str(error)
                return False  # it learns within a second which collection is read

            await until(is_told, "the former release says that the projection is kept elsewhere")
    async with build(real_settings, unique, in_documents(version=3)) as back, Worker(back):
        assert await back.runtime.continuity.problem() is None  # the table is there, and elsewhere
        await read_is(back, "jobs_table__v3")
        assert await back.query(GetJob(job_id="b")) == Row(id="b", title="Job b")


async def test_one_handler_feeds_two_tables(settings: Settings, sql_url: str) -> None:
    further = jobs_of(sql_url, jobs_table("jobs_again"))
    async with build(settings, SERVICE, jobs_of(sql_url), further) as bus, Worker(bus):
        await post(bus, "a", "b")
        names = ("jobs_table", "jobs_again")

        def found() -> bool:
            return [shown(sql_url, name) for name in names] == [expected(["a", "b"])] * 2

        await until(found, "two tables with both")
    assert all(
        projection.handlers[Posted].call is sheets.in_table
        for projection in (further, jobs_of(sql_url))
    )


def shown(url: str, name: str) -> list[Any] | None:
    try:
        return read(url, name)
    except statements.REFUSALS:
        return None


async def test_a_database_that_is_away_stops_its_projection_and_nothing_else(
    settings: Settings, sql_url: str
) -> None:
    away = sql_url.rpartition("/")[0].rpartition(":")[0] + ":1/nowhere"
    other = jobs_of(away, jobs_table("elsewhere"))
    async with build(settings, SERVICE, jobs_of(sql_url), other) as bus, Worker(bus):
        receipt = await bus.execute(Post(job_id="a", title="Job a"))
        row = await bus.query(GetJob(job_id="a"), after=receipt)
        assert row == Row(id="a", title="Job a")
