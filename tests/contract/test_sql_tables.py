"""Tables of projections, on each SQL server: the contract of sinks, and what is of SQL alone."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from bus.errors import ProjectionError, StoreUnavailable
from bus.stores.collections import Target
from bus.stores.sink import Increment, Place, Remove, Sink, Upsert
from bus.stores.sql import SqlTable, dialects
from bus.stores.sql.tables.place import TablePlace
from bus.stores.sql.tables.writing.upserting import unread
from bus.testing.contracts.sink_contract import NAMES, Rows, SinkContract, changes
from tools.services import statements


def jobs() -> sa.Table:
    return sa.Table(
        "jobs",
        sa.MetaData(),
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("title", sa.String(50), index=True),
        sa.Column("count", sa.Integer),
    )


class TablesContract(SinkContract):
    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def sink(self, url: str) -> Sink:
        return SqlTable(jobs(), url=url)

    @pytest.fixture
    async def places(self, sink: Sink) -> AsyncIterator[Sequence[Place]]:
        places = [sink.place("service") for _ in range(2)]
        for place in places:
            await place.open()
        yield places
        for place in places:
            await place.close()

    async def shown(self, place: Place, name: str) -> Rows | None:
        try:
            rows = statements.run(self.url_of(place), f"SELECT id, title, count FROM {name}")
        except statements.REFUSALS:
            return None
        return {
            key: {name: value for name, value in (("title", title), ("count", count)) if value}
            for key, title, count in rows
        }

    def url_of(self, place: Any) -> str:
        url: str = place._database.engine.url.render_as_string(hide_password=False)
        return url


class TestTablesInPostgreSQL(TablesContract):
    @pytest.fixture
    def url(self, postgresql_url: str) -> str:
        return postgresql_url


class TestTablesInMariaDB(TablesContract):
    @pytest.fixture
    def url(self, mariadb_url: str) -> str:
        return mariadb_url


class TestTablesInMySQL(TablesContract):
    @pytest.fixture
    def url(self, mysql_url: str) -> str:
        return mysql_url


# --- what is of SQL alone, on each server ---------------------------------------------------


def days() -> sa.Table:
    return sa.Table(
        "days",
        sa.MetaData(),
        sa.Column("city", sa.String(20), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("name", sa.String(10), nullable=False),
        sa.Column("count", sa.Integer, nullable=False, default=0),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("rate", sa.Float),
        sa.Column("at", sa.DateTime),
        sa.Column("data", sa.JSON),
        sa.Column("note", sa.String(20), unique=True),
        sa.CheckConstraint("count < 100", name="not_many"),
    )


DAYS = Target("days", "days__v1", False, place="table")
MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
ADA, BOB = ("Ada", MONDAY), ("Bob", MONDAY)


@asynccontextmanager
async def opened(url: str, table: sa.Table, service: str = "service") -> AsyncIterator[TablePlace]:
    place = SqlTable(table, url=url).place(service)
    await place.open()
    try:
        yield place
    finally:
        await place.close()


@pytest.fixture
async def place(sql_url: str) -> AsyncIterator[TablePlace]:
    async with opened(sql_url, days()) as place:
        assert list(await place.prepare(DAYS)) == []
        yield place


async def make(place: TablePlace, *writes: tuple[Any, Any], version: int = 1) -> None:
    made = changes(*writes, a=version)
    assert await place.write(DAYS, made, {"job-a": version - 1})


async def test_a_column_that_is_never_empty_need_not_be_in_each_change(place: TablePlace) -> None:
    await make(place, (ADA, Upsert(name="x", data={"n": [1]}, rate=0.1)))
    noon = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
    some = [(ADA, Upsert(at=noon)), (ADA, Increment(count=2, price=Decimal("0.105")))]
    await make(place, *some, version=2)
    await make(place, *some, version=3)
    (row,) = await place.page(DAYS, "", 9)
    assert row == {
        "_id": ADA,
        "name": "x",
        "count": 4,
        "price": Decimal("0.22"),
        "rate": 0.1,
        "at": datetime(2026, 1, 1, 12, 0, 0, 5),
        "data": {"n": [1]},
        "note": None,
    }


async def test_nothing_is_null_for_whoever_reads_by_sql(place: TablePlace, sql_url: str) -> None:
    await make(place, (ADA, Upsert(name="x")), (BOB, Upsert(name="y", data=None)))
    found = statements.run(sql_url, "SELECT count(*) FROM days__v1 WHERE data IS NULL")
    assert [list(row) for row in found] == [[2]]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (Upsert(name="much too long a name"), ("'name' has 10 characters at most",)),
        (Upsert(note="x"), ("name",)),
        (Upsert(name="y", note="taken"), ("note",)),
        (Upsert(name="y", count=2**40), ("count", "out of", "OUT_OF", "DataError")),
        (Upsert(name="y", count=101), ("not_many",)),
        (Upsert(name="y\0secret"), ("CharacterNotInRepertoire", "name")),
    ],
    ids=["too long", "missing", "taken", "out of range", "check", "nul"],
)
async def test_what_the_database_refuses_is_told_in_its_words_and_not_written(
    place: TablePlace, change: Upsert, named: tuple[str, ...]
) -> None:
    await make(place, (ADA, Upsert(name="x", note="taken")))
    some = changes((("Cyd", MONDAY), Upsert(name="z")), (BOB, change), a=2)
    if place.name != "PostgreSQL" and change.values.get("name") == "y\0secret":
        assert await place.write(DAYS, some, {"job-a": 1})  # a letter as any other
        return
    with pytest.raises(ProjectionError) as refused:
        await place.write(DAYS, some, {"job-a": 1})
    told = str(refused.value)
    assert any(name in told for name in named), told
    assert not any(value in told for value in ("much too long", "taken", "1099511627776", "secret"))
    assert [row["_id"] for row in await place.page(DAYS, "", 9)] == [ADA]
    assert await place.versions(DAYS, ["job-a"]) == {"job-a": 1}


class Shouted(sa.types.TypeDecorator[str]):
    """A type of the user's own, which takes less than it says."""

    impl = sa.String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.upper()


def kinds() -> sa.Table:
    return sa.Table(
        "kinds",
        sa.MetaData(),
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("raw", sa.LargeBinary),
        sa.Column("took", sa.Interval),
        sa.Column("stamp", sa.TIMESTAMP),
        sa.Column("rate", sa.Float),
        sa.Column("loud", Shouted),
    )


KINDS = Target("kinds", "kinds__v1", False, place="table")


async def test_what_was_written_is_read_again_on_each_server(sql_url: str) -> None:
    took, stamp = timedelta(days=3, microseconds=5), datetime(2050, 1, 1, 12, 0, 0, 5)
    row = {"raw": b"\x00'\xff\\", "took": took, "stamp": stamp, "rate": 0.1, "loud": "X"}
    async with opened(sql_url, kinds()) as place:
        assert list(await place.prepare(KINDS)) == []
        some = changes(("a", Upsert(row)), ("b", Upsert(raw=b"")), a=1)
        assert await place.write(KINDS, some, {"job-a": 0})
        found = await place.whole(KINDS, ["a", "b"])
    assert found["a"] == {"_id": "a", **row}
    assert found["b"]["raw"] == b""


@pytest.mark.parametrize(
    "wrong",
    [
        lambda table: sa.update(table).values(rate=sa.literal(float("nan")) + 10**400),
        lambda table: sa.update(table).values(loud={"a": 1}),
        lambda table: sa.update(table).values(raw={"a": 1}),
        lambda table: Upsert(loud=5),
    ],
    ids=["nan", "a type of the user's", "a mapping", "a row"],
)
async def test_what_a_driver_cannot_write_is_refused_and_holds_up_nobody(
    sql_url: str, wrong: Callable[[sa.Table], Any]
) -> None:
    async with opened(sql_url, kinds()) as place:
        await place.prepare(KINDS)
        change = wrong(place.table(KINDS))
        with pytest.raises(ProjectionError):
            await place.write(KINDS, changes(("a", change), a=1), {"job-a": 0})


async def test_statements_come_in_their_turn(place: TablePlace) -> None:
    table = place.table(DAYS)
    doubled = sa.update(table).values(count=table.c.count * 2)
    removed = sa.delete(table).where(table.c.city == "Bob")
    await make(
        place,
        *((ADA, Upsert(name="x", count=1)), (BOB, Upsert(name="y"))),
        *(("", doubled), (ADA, Increment(count=5)), ("", doubled), ("", removed)),
        (BOB, Upsert(name="anew")),
    )
    rows = await place.page(DAYS, "", 9)
    assert [(row["_id"], row["name"], row["count"]) for row in rows] == [
        (ADA, "x", 14),
        (BOB, "anew", 0),
    ]


def sums(name: str, *further: Any) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("note", sa.String(20)),
        sa.Column("count", sa.Integer, nullable=False, default=3),
        sa.Column("price", sa.Numeric(12, 2), default=Decimal("0.5")),
        sa.Column("few", sa.SmallInteger),
        *further,
    )


def chance(random: Random) -> Any:
    change = random.choice([Upsert, Increment, Increment, Remove])
    if change is Remove:
        return Remove()
    given = {
        "count": random.randrange(-5, 50),
        "price": Decimal(random.randrange(-500, 5000)) / 1000,
        "few": random.choice([1, -2, 20000]),
    }
    names = random.sample(sorted(given), random.randrange(0, 4))
    note = {"note": f"n{random.randrange(9)}"} if change is Upsert and random.random() < 0.7 else {}
    return change({**{name: given[name] for name in names}, **note})


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_written_unread_is_what_reading_would_make(sql_url: str, seed: int) -> None:
    random, unreads = Random(seed), 0
    checked = sums("checked", sa.CheckConstraint("count < 1000000", name="read"))
    async with opened(sql_url, sums("plain")) as plain, opened(sql_url, checked) as read:
        places = {name: (Target(name, f"{name}__v1", False)) for name in ("plain", "checked")}
        await plain.prepare(places["plain"])
        await read.prepare(places["checked"])
        for version in range(1, 40):
            keys = [random.choice("abcdef") for _ in range(random.randrange(1, 8))]
            some = changes(*((key, chance(random)) for key in keys), **dict.fromkeys(keys, version))
            before = await plain.versions(places["plain"], list(some.versions))
            before = {stream: before.get(stream, 0) for stream in some.versions}
            unreads += unread(plain.table(places["plain"]), some.writes) is not None
            try:
                assert await read.write(places["checked"], some, before)
            except ProjectionError:  # `few` is full
                with pytest.raises(ProjectionError):
                    await plain.write(places["plain"], some, before)
                continue
            assert await plain.write(places["plain"], some, before)
            rows = await plain.page(places["plain"], "", 99)
            assert rows == await read.page(places["checked"], "", 99)
    assert unread(read.table(places["checked"]), some.writes) is None
    assert unreads > 20


async def test_keys_of_several_columns_are_in_one_order_everywhere(place: TablePlace) -> None:
    keys = [(city, day) for city in NAMES for day in (TUESDAY, MONDAY)]
    await make(place, *((key, Upsert(name="x")) for key in keys))
    found, after = list[Any](), ""
    while page := await place.page(DAYS, after, 5):
        found += [row["_id"] for row in page]
        after = found[-1]
    assert found == sorted(keys)
    assert set(await place.sample(DAYS, 99)) == set(keys)
    some = [("a", MONDAY), ("A", TUESDAY), ("b", MONDAY), "a"]
    whole = await place.whole(DAYS, some)
    assert {key: row["_id"] for key, row in whole.items()} == {key: key for key in some[:2]}
    row = whole["a", MONDAY]
    assert await place.replace(DAYS, ("a", MONDAY), row, {**row, "count": 7})
    with pytest.raises(ProjectionError, match="not_many"):
        await place.replace(DAYS, ("A", TUESDAY), whole["A", TUESDAY], {**row, "count": 101})


async def test_a_table_that_is_declared_otherwise_is_told_with_a_remedy(
    place: TablePlace, sql_url: str
) -> None:
    other = days()
    other.append_column(sa.Column("further", sa.Integer, index=True))
    other.c.name.nullable = True
    async with opened(sql_url, other) as changed:
        told = "\n".join(await changed.prepare(DAYS))
    assert "column further is missing in the table" in told
    assert "index further is missing in the table" in told
    assert "column name is VARCHAR(10) NOT NULL in the table, and VARCHAR(10) in the" in told
    assert told.count("raise the projection's version=") == 3


async def test_what_somebody_took_away_from_a_table_is_told(
    place: TablePlace, sql_url: str
) -> None:
    statements.run(sql_url, "ALTER TABLE days__v1 DROP COLUMN rate")
    (told,) = await place.prepare(DAYS)
    assert "column rate was taken away" in told


async def test_what_others_keep_under_the_name_stays(place: TablePlace, sql_url: str) -> None:
    other = DAYS._replace(collection="days__v2")
    statements.run(sql_url, "CREATE TABLE days__v2 (id INTEGER)")
    statements.run(sql_url, "CREATE TABLE days (id INTEGER)")
    (told,) = await place.prepare(other)
    assert "a table days__v2 that the bus did not make" in told
    assert "something else" in str(await place.show("days", DAYS))
    assert "something else" in str(await place.show("days", None))
    async with opened(sql_url, days(), "another") as another:
        (told,) = await another.prepare(DAYS)
        await another.drop(DAYS)
        assert await another.identities() == {}
    assert "the service 'service' keeps a table of this name" in told
    await place.drop(other)
    for name in ("days", "days__v1", "days__v2"):
        statements.run(sql_url, f"SELECT * FROM {name}")


async def test_who_waits_in_vain_for_another_that_makes_tables_makes_none(
    place: TablePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "LOCK_WITHIN", 1)
    database, new = place._database, DAYS._replace(collection="days__v2")
    async with database.connection() as another:
        await database.dialect.lock_schema(another)
        with pytest.raises(StoreUnavailable, match=r"(?i)lock"):
            await place.prepare(new)
        await database.dialect.unlock_schema(another)
    assert list(await place.prepare(new)) == []


async def test_a_view_gets_other_columns_and_keeps_its_readers(
    place: TablePlace, sql_url: str
) -> None:
    assert await place.show("days", DAYS) is None
    if place.name == "PostgreSQL":
        statements.run(sql_url, "GRANT SELECT ON days TO PUBLIC")
    other = sa.Table(
        "days",
        sa.MetaData(),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("city", sa.String(20), primary_key=True),
        sa.Column("price", sa.Numeric(10, 2)),
    )
    new = DAYS._replace(collection="days__v2")
    async with opened(sql_url, other) as next_release:
        await next_release.prepare(new)
        assert await next_release.show("days", new) is None
    statements.run(sql_url, "SELECT day, city, price FROM days")
    with pytest.raises(statements.REFUSALS):
        statements.run(sql_url, "SELECT name FROM days")
    if place.name == "PostgreSQL":
        granted = "SELECT has_table_privilege('public', 'days', 'SELECT')"
        assert statements.run(sql_url, granted) == [(True,)]


async def test_a_table_that_was_dropped_has_no_identity_and_the_next_begins_anew(
    place: TablePlace, sql_url: str
) -> None:
    await make(place, (ADA, Upsert(name="x")))
    before = await place.identities()
    statements.run(sql_url, "DROP TABLE days__v1")
    assert await place.identities() == {}
    with pytest.raises(StoreUnavailable, match="bus events recover"):
        await place.write(DAYS, changes((ADA, Upsert(name="x")), a=2), {"job-a": 1})
    assert list(await place.prepare(DAYS)) == []
    assert await place.versions(DAYS, ["job-a"]) == {}
    assert (await place.identities()).keys() == before.keys()
    assert await place.identities() != before
    await make(place, (ADA, Upsert(name="x")))
    statements.run(sql_url, "DROP TABLE bus_checkpoints")
    assert await place.identities() == {}
    assert list(await place.prepare(DAYS)) == []
    assert await place.page(DAYS, "", 9) == []
    await make(place, (ADA, Upsert(name="x")))


@pytest.mark.parametrize("stream", ["known", "new"])
async def test_versions_that_somebody_took_away_are_noticed_and_the_next_table_begins_anew(
    place: TablePlace, sql_url: str, stream: str
) -> None:
    await make(place, (ADA, Upsert(name="x", count=1)))
    statements.run(sql_url, "DELETE FROM bus_checkpoints")
    assert await place.identities() == {}
    some, before = changes((ADA, Increment(count=1)), **{stream: 5}), {f"job-{stream}": 4}
    if stream == "new":
        before = {"job-new": 0}
    with pytest.raises(StoreUnavailable, match="lacks what days__v1 had reached"):
        await place.write(DAYS, some, before)
    with pytest.raises(StoreUnavailable, match="lacks what days__v1 had reached"):
        await place.versions(DAYS, [f"job-{stream}"])
    (problem,) = await place.prepare(DAYS)
    assert "`bus events recover` builds it anew" in problem
    assert [row["count"] for row in await place.page(DAYS, "", 9)] == [1]
    await place.drop(DAYS)
    with pytest.raises(StoreUnavailable, match="lacks what days__v1 had reached"):
        await place.write(DAYS, some, before)
    assert list(await place.prepare(DAYS)) == []
    assert await place.page(DAYS, "", 9) == []
    await make(place, (ADA, Upsert(name="x")))


class Base(DeclarativeBase):
    pass


class DayRow(Base):
    """The rows as an ORM class has them, which reads the view."""

    __tablename__ = "days"
    city: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    name: Mapped[str]


async def test_a_query_is_lent_a_session_that_only_reads(place: TablePlace) -> None:
    await make(place, (ADA, Upsert(name="x")))
    table = place.table(DAYS)
    async with place.session() as session:
        assert await session.scalar(sa.select(table.c.name)) == "x"
        row = aliased(DayRow, table, adapt_on_names=True)
        assert await session.scalar(sa.select(row.name).where(row.city == "Ada")) == "x"
        with pytest.raises(DBAPIError):
            await session.execute(sa.delete(table))
    assert len(await place.page(DAYS, "", 9)) == 1


async def test_a_server_that_is_away_is_told_by_where_its_url_stands(sql_url: str) -> None:
    parts = urlsplit(sql_url)
    away = parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:1").geturl()
    place = SqlTable(days(), url=away).place("service")
    with pytest.raises(StoreUnavailable, match=r"SqlTable\('days', url=...\) right") as told:
        await place.open()
    assert "BUS_LOG_URL" not in str(told.value)
    with pytest.raises(StoreUnavailable):
        await place.write(DAYS, changes(a=1), {"job-a": 0})
    await place.close()


async def test_columns_may_be_called_as_anything(sql_url: str) -> None:
    table = sa.Table(
        "named",
        sa.MetaData(),
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("title", sa.String(20), unique=True),
        sa.Column("new_title", sa.String(20)),
        sa.Column("key_0", sa.Integer),
    )
    target = Target("named", "named__v1", False, place="table")
    async with opened(sql_url, table) as place:
        await place.prepare(target)
        made = changes(("a", Upsert(title="x", new_title="y", key_0=1)), a=1)
        assert await place.write(target, made, {"job-a": 0})
        changed = changes(("a", Upsert(title="z", key_0=2)), a=2)
        assert await place.write(target, changed, {"job-a": 1})
        row = (await place.whole(target, ["a"]))["a"]
        assert (row["title"], row["new_title"], row["key_0"]) == ("z", "y", 2)


async def test_a_sum_beyond_its_column_is_refused_by_the_columns_name(sql_url: str) -> None:
    table = sa.Table(
        "sums",
        sa.MetaData(),
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("small", sa.SmallInteger),
    )
    target = Target("sums", "sums__v1", False, place="table")
    async with opened(sql_url, table) as place:
        await place.prepare(target)
        made = changes(("a", Increment(small=-30_000)), a=1)
        assert await place.write(target, made, {"job-a": 0})
        some = [("a", Increment(small=30_000))] * 2  # their sum has no place there, the row's has
        assert await place.write(target, changes(*some, a=3), {"job-a": 1})
        with pytest.raises(ProjectionError, match="'small'"):
            await place.write(target, changes(some[0], a=4), {"job-a": 3})
        assert (await place.whole(target, ["a"]))["a"]["small"] == 30_000


async def test_a_statement_that_names_what_is_not_there_is_refused(sql_url: str) -> None:
    target = Target("jobs", "jobs__v1", False, place="table")
    async with opened(sql_url, jobs()) as place:
        await place.prepare(target)
        own = place._copies.of(target.collection)
        for wrong in ("no_such_column", "(SELECT max(n) FROM no_such_table)"):
            statement = sa.update(own).values(count=sa.text(wrong))
            with pytest.raises(ProjectionError, match="refuses the change"):
                await place.write(target, changes(("a", statement), a=1), {"job-a": 0})
        await place.drop(target)
        gone = sa.update(own).values(count=1)
        with pytest.raises(StoreUnavailable):
            await place.write(target, changes(("a", gone), a=1), {"job-a": 0})


async def test_a_part_of_a_key_may_have_a_default(sql_url: str) -> None:
    table = sa.Table(
        "kinds",
        sa.MetaData(),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("kind", sa.String(10), primary_key=True, default="all"),
        sa.Column("count", sa.Integer, nullable=False, default=0),
    )
    target = Target("kinds", "kinds__v1", False, place="table")
    paid, open_ = ("2026-01-01", "paid"), ("2026-01-01", "open")
    async with opened(sql_url, table) as place:
        await place.prepare(target)
        made = changes((paid, Increment(count=1)), (open_, Increment(count=2)), a=1)
        assert await place.write(target, made, {"job-a": 0})
        loaded = changes((("2026-01-02", "paid"), Increment(count=3)), b=1)
        assert not await place.load_streams(target, loaded)
        found = await place.whole(target, [paid, open_, ("2026-01-02", "paid")])
        assert sorted(row["count"] for row in found.values()) == [1, 2, 3]
