"""What is declared as a table of a projection, and what its handlers return: checked at once."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bus import (
    Aggregate,
    ConfigurationError,
    Event,
    Increment,
    Projection,
    ProjectionError,
    Remove,
    Upsert,
)
from bus.stores.collections import Target, Write
from bus.stores.sql import SqlTable
from bus.stores.sql.tables.columns import increased, stored
from bus.stores.sql.tables.copies import Copies, short
from bus.stores.sql.tables.writing.upserting import unread
from bus.testing import given

POSTGRESQL = "postgresql+asyncpg://user@host/database"
MARIADB = "mariadb+aiomysql://user@host/database"


class Moved(Event):
    day: str


class Thing(Aggregate, events=[Moved]):
    def apply(self, event: Event) -> None: ...


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "things"
    id: Mapped[str] = mapped_column(sa.String(50), primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(50), index=True)


def table(*columns: Any, key: Any = None) -> sa.Table:
    first = sa.Column("id", sa.String(50), primary_key=True) if key is None else key
    return sa.Table("things", sa.MetaData(), first, *columns)


def test_an_orm_class_is_a_table() -> None:
    sink = SqlTable(Row, url=POSTGRESQL)
    assert sink.table is Row.__table__
    Projection("things", of=[Thing], sink=sink)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (table(key=sa.Column("id", sa.String(50))), "no primary key"),
        (sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), schema="s"),
         "schema 's'"),
        (table(sa.Column("of", sa.ForeignKey("jobs.id"))), "foreign keys"),
        (table(sa.Column("n", sa.Integer, server_default="0")), "by default="),
        (table(sa.Column("n", sa.Integer, sa.Identity())), "by default="),
        (table(sa.Column("n", sa.String(9), default=uuid4)), "another build"),
        (table(sa.Column("n", sa.DateTime, onupdate=sa.func.now())), "another build"),
        (table(sa.Column("n", sa.Enum("a", "b", name="kind"))), "native_enum=False"),
        (table(sa.Column("_id", sa.Integer)), "a name of the bus's own"),
        (table(key=sa.Column("id", sa.Float, primary_key=True)), "a key is made of"),
        (table(key=sa.Column("id", sa.DateTime(timezone=True), primary_key=True)), "zone"),
        ("things", "a SQLAlchemy Table"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_table_that_cannot_be_built_beside_another_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SqlTable(wrong, url=POSTGRESQL)


@pytest.mark.parametrize(
    ("column", "change", "is_unread"),
    [
        (sa.Column("n", sa.Integer), Upsert(n=1), True),
        (sa.Column("n", sa.Integer), Increment(n=1), True),
        (sa.Column("n", sa.Numeric(8, 2)), Increment(n=1), True),
        (sa.Column("n", sa.Integer, nullable=False, default=0), Upsert(), True),
        (sa.Column("n", sa.Integer, nullable=False), Upsert(n=1), True),
        (sa.Column("n", sa.Integer, nullable=False), Upsert(), False),
        (sa.Column("n", sa.Integer, nullable=False), Remove(), True),
        (sa.Column("n", sa.Float), Increment(n=1), False),
        (sa.Column("n", sa.Numeric), Increment(n=1), False),
        (sa.Column("n", sa.Integer, unique=True), Upsert(n=1), False),
        (sa.Column("n", sa.Integer, sa.CheckConstraint("n > 0")), Upsert(n=1), False),
    ],
    ids=lambda value: "" if isinstance(value, bool) else None,
)
def test_a_row_is_read_where_the_database_cannot_tell_a_new_one_from_an_old_one(
    column: Any, change: Any, is_unread: bool
) -> None:
    own = Copies(table(column)).of("things__v1")
    write = Write("a", change, by="test", stream="thing-a", version=1)
    assert (unread(own, [write]) is not None) is is_unread


def test_a_row_is_read_where_a_sum_has_no_room_of_its_own() -> None:
    own = Copies(table(sa.Column("n", sa.SmallInteger))).of("things__v1")
    write = Write("a", Increment(n=30_000), by="test", stream="thing-a", version=1)
    assert unread(own, [write]) is not None
    assert unread(own, [write, write._replace(version=2)]) is None


def test_rows_of_several_streams_are_read_where_changes_differ() -> None:
    own = Copies(table(sa.Column("n", sa.Integer))).of("things__v1")
    some = [
        Write("a", Upsert(n=1), by="test", stream="thing-a", version=1),
        Write("b", Increment(n=1), by="test", stream="thing-b", version=1),
    ]
    assert unread(own, some) is not None
    shared = [write._replace(stream="thing-c") for write in some]
    assert unread(own, shared) is None
    assert unread(own, shared[:1]) is not None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('["Bonn", "2026-01-05", 7]', ("Bonn", date(2026, 1, 5), 7)),
        ('["Bonn", "2026-01-05"]', None),
        ('["Bonn", "Monday", 7]', None),
        ("Bonn", None),
        ('{"a": 1}', None),
    ],
)
def test_a_key_of_several_columns_is_written_as_a_json_list(text: str, key: Any) -> None:
    columns: list[Any] = [
        sa.Column("city", sa.String(9), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True),
    ]
    sink = SqlTable(sa.Table("days", sa.MetaData(), *columns), url=POSTGRESQL)
    if key:
        assert sink.key_from(text) == key
        return
    with pytest.raises(ProjectionError, match="JSON list of its primary key"):
        sink.key_from(text)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///things.db", "must begin with"),
        ("postgresql://user@host/database", "no asynchronous driver"),
        (f"{POSTGRESQL}?sslmode=require", "tls=true"),
        ("postgresql+asyncpg://user@host/", "names no database"),
        (b"postgresql+asyncpg://user@host/x", "is bytes"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_by_its_place_and_not_quoted(
    url: Any, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        SqlTable(table(), url=url)
    assert "url=" in str(refused.value)
    assert "user@host" not in str(refused.value)
    if isinstance(url, str):
        with pytest.raises(ConfigurationError, match=said):
            SqlTable(table(), url=lambda: url).place("service")


def test_texts_of_a_key_need_a_length_in_mysql() -> None:
    things = table(key=sa.Column("id", sa.String, primary_key=True))
    SqlTable(things, url=POSTGRESQL)
    with pytest.raises(ConfigurationError, match=r"String\(255\)"):
        SqlTable(things, url=MARIADB)


def test_the_table_has_the_projections_name() -> None:
    with pytest.raises(ConfigurationError, match="give both the same name"):
        Projection("jobs", of=[Thing], sink=SqlTable(table(), url=POSTGRESQL))


def test_a_key_of_several_columns_is_named_by_each_handler() -> None:
    things = table(sa.Column("day", sa.Date, primary_key=True), sa.Column("n", sa.Integer))
    sink = SqlTable(things, url=POSTGRESQL)
    projection: Projection[Any] = Projection("things", of=[Thing], sink=sink)

    def moved(event: Moved) -> Increment:
        return Increment(n=1)

    with pytest.raises(ConfigurationError, match="no key for this SqlTable"):
        projection.on(Moved)(moved)
    projection.on(Moved, key=lambda event: ("a", date.fromisoformat(event.day)))(moved)


class Colour(Enum):
    RED = "r"


NOON = datetime(2026, 1, 1, 12)


def columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("text", sa.String(10), nullable=False),
        sa.Column("count", sa.Integer),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("rate", sa.Float),
        sa.Column("at", sa.DateTime),
        sa.Column("twice", sa.Integer, sa.Computed("count * 2")),
        sa.Column("data", sa.JSON),
        sa.Column("kind", sa.Enum(Colour, native_enum=False)),
        sa.Column("size", sa.Enum("s", "m", native_enum=False)),
        sa.Column("day", sa.Date),
        sa.Column("clock", sa.Time),
        sa.Column("zoned", sa.DateTime(timezone=True)),
        sa.Column("words", sa.ARRAY(sa.String(3))),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Upsert(title="x"), "no column 'title'; it has 'id', 'text'"),
        (Upsert(id="x"), "primary key"),
        (Upsert(twice=2), "computed"),
        (Upsert(text=5), "takes str, and is given int"),
        (Upsert(text=None), "never empty"),
        (Upsert(count="5"), "takes int, and is given str"),
        (Upsert(count=True), "takes int, and is given bool"),
        (Upsert(price="5"), "takes a number"),
        (Upsert(price=Decimal("1e40")), "too many digits"),
        (Upsert(price=Decimal("123456789")), "too many digits"),
        (Upsert(price=Decimal("NaN")), "finite"),
        (Upsert(rate=float("nan")), "finite"),
        (Increment(rate=float("inf")), "finite"),
        (Upsert(rate=10**400), "finite"),
        (Upsert(rate=True), "takes float, and is given bool"),
        (Upsert(count=2**31), "beyond"),
        (Upsert(kind="r"), "a member of Colour"),
        (Upsert(size="xl"), "one of s, m"),
        (Upsert(data={"n": Decimal(5)}), "takes JSON"),
        (Upsert(data=[float("nan")]), "takes JSON"),
        (Upsert(day=NOON), "takes date, and is given datetime"),
        (Upsert(clock=NOON.time().replace(tzinfo=UTC)), "without a zone"),
        (Upsert(zoned=datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))), "years 1 to"),
        (Upsert(words=["abc", "abcd"]), "'words' has texts of 3 characters at most"),
        (Upsert(at=date(2026, 1, 1)), "takes datetime"),
        (Increment(text=1), "both must be numbers"),
        (Increment(count=1.5), "takes int, and is given float"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_change_that_the_table_cannot_take_is_refused_without_its_values(
    change: Any, said: str
) -> None:
    sink = SqlTable(table(*columns()), url=POSTGRESQL)
    with pytest.raises(ProjectionError, match=said) as refused:
        sink.check("a", change)
    assert "'5'" not in str(refused.value)


def test_a_statement_changes_the_table_that_is_being_built() -> None:
    sink = SqlTable(table(sa.Column("n", sa.Integer)), url=POSTGRESQL)
    given = sink.given()[sa.Table](Target("things", "things__v2", False))
    assert given.name == "things__v2"
    sink.check("", sa.update(given).values(n=1))
    with pytest.raises(ProjectionError, match="take it as a parameter"):
        sink.check("", sa.update(sink.table).values(n=1))


@pytest.mark.parametrize("key", ["", 5, ("a",), None])
def test_the_key_of_a_text_is_a_text(key: Any) -> None:
    with pytest.raises(ProjectionError):
        SqlTable(table(), url=POSTGRESQL).check(key, Upsert())


@pytest.mark.parametrize("key", ["a", ("a",), ("a", "2026-01-01"), ("a", datetime(2026, 1, 1)), ()])
def test_the_key_of_several_columns_is_a_tuple_of_their_values(key: Any) -> None:
    things = table(sa.Column("day", sa.Date, primary_key=True))
    sink = SqlTable(things, url=POSTGRESQL)
    sink.check(("a", date(2026, 1, 1)), Upsert())
    with pytest.raises(ProjectionError, match=r"\(id: str, day: date\)"):
        sink.check(key, Upsert())


def test_sums_do_not_depend_on_how_events_come_in_batches() -> None:
    price = columns()[2]
    total: Any = None
    for amount in (Decimal("0.005"), 0.1, 2):
        total = increased(price, total, amount)
    assert total == Decimal("2.11")


def test_values_that_a_column_has_are_taken() -> None:
    values = {"kind": Colour.RED, "size": "s", "data": None, "day": NOON.date(), "words": ["abc"]}
    sink = SqlTable(table(*columns()), url=POSTGRESQL)
    sink.check("a", Upsert(values))
    sink.check("a", Upsert(kind="RED", price=None, count=-(2**31), clock=NOON.time()))


def test_numbers_of_a_precision_alone_are_whole_in_each_batch() -> None:
    whole = sa.Column("n", sa.Numeric(10))
    once = increased(whole, increased(whole, None, Decimal("0.4")), Decimal("0.4"))
    assert once == 0


@pytest.mark.parametrize(
    ("column", "value"), [("rate", 1e308), ("count", 2**30), ("price", Decimal(99999999))]
)
def test_a_sum_that_its_column_cannot_hold_is_refused(column: str, value: Any) -> None:
    own = next(found for found in columns() if found.name == column)
    with pytest.raises(ProjectionError, match=column):
        increased(own, value, value)


def test_decimal_numbers_of_no_known_scale_are_none_in_mysql() -> None:
    things = table(sa.Column("price", sa.Numeric))
    SqlTable(things, url=POSTGRESQL)
    with pytest.raises(ConfigurationError, match="no known scale"):
        SqlTable(things, url=MARIADB)


def test_times_are_stored_in_utc() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert stored(columns()[4], noon) == datetime(2026, 1, 1, 10)
    zoned = sa.Column("at", sa.DateTime(timezone=True))
    assert stored(zoned, noon) == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert stored(zoned, datetime(2026, 1, 1)).tzinfo is UTC


def test_names_of_a_copy_are_its_own_and_never_too_long() -> None:
    things = table(
        sa.Column("title", sa.String(50), index=True),
        sa.Column("n", sa.Integer),
        sa.UniqueConstraint("title", name="one_title"),
        sa.CheckConstraint("n > 0", name="positive"),
        sa.Index("by_n", "n"),
    )
    long = "things__v1__audit_" + "x" * 60
    copies = [Copies(things).of(name) for name in ("things__v1", "things__v2", long)]
    named: list[Any] = [n for copy in copies for n in (copy, *copy.indexes, *copy.constraints)]
    names = [str(one.name) for one in named if one.name]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for name in names)
    assert short("ä" * 40) != short("ä" * 41)


def test_without_its_database_it_is_folded_into_rows_in_memory_but_for_statements() -> None:
    declared = table(sa.Column("day", sa.String(9)), sa.Column("count", sa.Integer))
    sink = SqlTable(declared, url=POSTGRESQL)
    written: Projection[Any] = Projection("things", of=[Thing], sink=sink)

    @written.on(Moved)
    def moved(event: Moved) -> list[Upsert | tuple[str, Increment]]:
        return [Upsert(day=event.day), ("moves", Increment(count=1))]

    folded = given(Thing, "a", Moved(day="1"), Moved(day="2")).project(written)
    folded.then({"a": {"day": "2"}, "moves": {"count": 2}})
    with pytest.raises(AssertionError, match="moves"):
        folded.then({"a": {"day": "2"}})

    emptied: Projection[Any] = Projection(
        "things", of=[Thing], sink=SqlTable(table(), url=POSTGRESQL)
    )

    @emptied.on(Moved)
    def gone(event: Moved, things: sa.Table) -> sa.Delete:
        return sa.delete(things)

    with pytest.raises(ProjectionError, match=r"rows in memory take .* of type Delete.* its own"):
        given(Thing, "a", Moved(day="all")).project(emptied)
