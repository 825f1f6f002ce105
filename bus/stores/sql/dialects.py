"""What PostgreSQL does in one way, and MariaDB and MySQL in another."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.stores.sql.failures import LOCK_WAIT_TIMEOUT, Kind, kind_of
from bus.stores.sql.rows import COLUMNS, Row
from bus.stores.sql.schema import commits

IN_FLIGHT_AT_A_TIME = 5000
LOCK_WITHIN = 30
"""Seconds."""

Rows = Sequence[Row]


class Late(Exception):
    """The commits came to the server too late to be written, so that no reader skips them."""


class Dialect(Protocol):
    """The statements that differ."""

    set_up: ClassVar[Sequence[str]]
    """What is said to the server for each new connection."""
    clock: ClassVar[str]
    """Asks for the server's time, in seconds since 1970."""
    begin: ClassVar[str]
    """Begins a transaction, READ COMMITTED."""

    def connect_args(self, seconds: float) -> dict[str, Any]:
        """Returns what the driver is to be given, to connect within so many seconds."""
        ...

    def adapt(self, driver: Any) -> None:
        """Has a new connection of the driver's take all values that columns have."""
        return

    def label(self, dialect: sa.Dialect) -> str:
        """Returns the database's name, for people."""
        ...

    async def end_stalled(self, connection: AsyncConnection, seconds: float) -> int:
        """Ends the connections of this one's kind whose clients have stood still for longer amid a
        statement of a transaction, where the server does not; returns how many."""
        return 0

    @abstractmethod
    async def insert(self, driver: Any, rows: Rows, until: datetime) -> set[str]:
        """Stores, in one statement of the driver's connection, what conflicts with nothing, and
        returns the ids of what it stored. It may store less, and nothing if the server's time is
        after `until`. Raises: the driver's errors."""

    @abstractmethod
    async def insert_all(self, connection: AsyncConnection, rows: Rows, until: datetime) -> None:
        """Stores all or nothing, in one statement. Raises: Late, the driver's errors."""

    @abstractmethod
    async def earliest(self, connection: AsyncConnection) -> datetime | None:
        """Returns the earliest time of the commits that are being written; None if none are."""

    @abstractmethod
    async def most_bytes(self, connection: AsyncConnection) -> int:
        """Returns how many bytes a statement may have; 0 if there is no limit."""

    @abstractmethod
    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Has others wait who would change the tables, until the connection is given back.

        Raises: the driver's errors, also where another process holds it for over `LOCK_WITHIN`.
        """

    @abstractmethod
    async def unlock_schema(self, connection: AsyncConnection) -> None:
        """Lets the others go on."""

    @abstractmethod
    async def unique(self, connection: AsyncConnection) -> set[str]:
        """Returns the names of the unique indexes of the commits."""

    def beyond(self, columns: Sequence[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Returns a condition for the rows after the one with these values, in this order."""
        ...


_NAMES = ", ".join(COLUMNS)
_TYPES = {"first": "bigint", "last": "bigint", "time": "timestamptz"}
_AS_JSON = ("headers", "events", "outgoing", "result")

SPACE = 0x646F7562
"""The first half of the keys of our advisory locks; the second half is a time."""
_HALF = 2**31


def _seconds(moment: datetime) -> int:
    """Returns whole seconds since 1970, as a key of a lock holds them."""
    return min(max(int(moment.timestamp()), 0), 2**32 - 1) - _HALF


class PostgreSQL(Dialect):
    """PostgreSQL by asyncpg.

    What is being written is known by locks: each statement that appends holds one, shared, whose
    key is the time of its earliest commit, until it is committed. Anyone may read which are held.
    """

    set_up = (
        "SELECT set_config('lock_timeout', '4s', false),"
        " set_config('idle_in_transaction_session_timeout', '60s', false),"
        " set_config('TimeZone', 'UTC', false)",
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'",
    )
    clock = "SELECT extract(epoch FROM clock_timestamp())"
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED"

    _insert = (
        "WITH held AS MATERIALIZED ("
        "SELECT pg_advisory_xact_lock_shared($1::int, $2::int), clock_timestamp() AS at) "
        f"INSERT INTO bus_commits ({_NAMES}, pending) SELECT "
        + ", ".join(f"t.{name}::json" if name in _AS_JSON else f"t.{name}" for name in COLUMNS)
        + ", true FROM held, unnest("
        + ", ".join(f"${n}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(COLUMNS, 4))
        + f") AS t({_NAMES}) WHERE held.at <= $3::timestamptz"
    )

    def connect_args(self, seconds: float) -> dict[str, Any]:
        return {"timeout": seconds, "server_settings": {"application_name": "doubledecker"}}

    def label(self, dialect: sa.Dialect) -> str:
        return "PostgreSQL"

    _insert_new = f"{_insert} ON CONFLICT DO NOTHING RETURNING id"
    _insert_all = f"{_insert} RETURNING id"

    async def end_stalled(self, connection: AsyncConnection, seconds: float) -> int:
        # A client that was told what a statement takes, and does not give it, is not idle; and
        # what cancels a statement is not looked at until it does.
        found = await connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND usename = session_user "
            "AND application_name = current_setting('application_name') "
            "AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL "
            "AND clock_timestamp() - state_change > make_interval(secs => $1)",
            (seconds,),
        )
        return sum(found.scalars())

    async def insert(self, driver: Any, rows: Rows, until: datetime) -> set[str]:
        found = await driver.fetch(self._insert_new, *self._values(rows, until))
        return {row[0] for row in found}

    async def insert_all(self, connection: AsyncConnection, rows: Rows, until: datetime) -> None:
        values = self._values(rows, until)
        if not (await connection.exec_driver_sql(self._insert_all, values)).all():
            raise Late

    def _values(self, rows: Rows, until: datetime) -> tuple[Any, ...]:
        key = _seconds(min(row.time for row in rows))
        return (SPACE, key, until, *map(list, zip(*rows, strict=True)))

    async def earliest(self, connection: AsyncConnection) -> datetime | None:
        found = await connection.exec_driver_sql(
            "SELECT min((objid::bigint + 2147483648) % 4294967296) FROM pg_locks "
            f"WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid = {SPACE} "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        oldest = found.scalar_one()
        return None if oldest is None else datetime.fromtimestamp(oldest, UTC)

    async def most_bytes(self, connection: AsyncConnection) -> int:
        return 0

    async def lock_schema(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_WITHIN}s'")
        await connection.exec_driver_sql(f"SELECT pg_advisory_lock({SPACE})")

    async def unlock_schema(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(f"SELECT pg_advisory_unlock({SPACE})")
        await connection.exec_driver_sql("SET lock_timeout = '4s'")

    async def unique(self, connection: AsyncConnection) -> set[str]:
        found = await connection.exec_driver_sql(
            "SELECT name.relname FROM pg_index AS own JOIN pg_class AS name "
            "ON name.oid = own.indexrelid WHERE own.indrelid = to_regclass('bus_commits') "
            "AND own.indisunique AND own.indisvalid"
        )
        return set(found.scalars())

    def beyond(self, columns: Sequence[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        own = [sa.literal(value, c.type) for c, value in zip(columns, values, strict=True)]
        return sa.tuple_(*columns) > sa.tuple_(*own)


def _literal(value: str | int | datetime | None) -> str:
    """Returns a value as MariaDB and MySQL read it, where backslashes escape and texts are UTF-8:
    within quotes, the quote and the backslash alone have a meaning."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if value is None:
        return "NULL"
    return f"'{value:%Y-%m-%d %H:%M:%S.%f}'" if isinstance(value, datetime) else str(value)


class MySQL(Dialect):
    """MariaDB and MySQL by aiomysql.

    What is being written is what a dirty read sees among the pending rows, and a clean one does
    not. A row that comes too late has no `first`, which the table refuses.
    """

    set_up = (
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
        "innodb_lock_wait_timeout = 4",
    )
    clock = "SELECT UNIX_TIMESTAMP(SYSDATE(3))"
    begin = "START TRANSACTION"  # isolated as the session is

    _row = (
        "("
        + ", ".join("IF(UTC_TIMESTAMP(3) <= %s, %s, NULL)" if n == "first" else "%s"
                    for n in COLUMNS)
        + ", 1)"
    )  # fmt: skip
    _place = COLUMNS.index("first")

    def connect_args(self, seconds: float) -> dict[str, Any]:
        return {"connect_timeout": seconds, "charset": "utf8mb4"}

    def adapt(self, driver: Any) -> None:
        # aiomysql asks PyMySQL to write bytes, which since 1.2 gives it a text to call instead.
        usual = driver.escape

        def escape(value: Any) -> str:
            is_binary = isinstance(value, bytes | bytearray)
            return f"_binary X'{value.hex()}'" if is_binary else str(usual(value))

        driver.escape = escape

    def label(self, dialect: sa.Dialect) -> str:
        return "MariaDB" if getattr(dialect, "is_mariadb", False) else "MySQL"

    async def insert(self, driver: Any, rows: Rows, until: datetime) -> set[str]:
        # A duplicate undoes the whole statement: which ones are taken is looked up, and the others
        # are sent again.
        try:
            async with driver.cursor() as cursor:
                await cursor.execute(self._written(rows, until))
        except Exception as error:
            if kind_of(error) is not Kind.TAKEN:
                raise
            return set()
        return {row.id for row in rows}

    async def insert_all(self, connection: AsyncConnection, rows: Rows, until: datetime) -> None:
        await connection.exec_driver_sql(*self._statement(rows, until))

    def _written(self, rows: Rows, until: datetime) -> str:
        """Returns the statement with its values, for a connection that we have set up ourselves.

        The driver takes five times as long: it goes through each text letter by letter.
        """
        latest = _literal(self._latest(until))
        written = []
        for row in rows:
            values = list(map(_literal, row))
            values[self._place] = f"IF(UTC_TIMESTAMP(3) <= {latest}, {row.first}, NULL)"
            written.append(f"({', '.join(values)}, 1)")
        return f"INSERT INTO bus_commits ({_NAMES}, pending) VALUES {', '.join(written)}"

    def _latest(self, until: datetime) -> str:
        return f"{until.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"

    def _statement(self, rows: Rows, until: datetime) -> tuple[str, tuple[Any, ...]]:
        values: list[Any] = []
        latest = self._latest(until)
        for row in rows:
            values += row[: self._place]
            values.append(latest)
            values += row[self._place :]
        statement = f"INSERT INTO bus_commits ({_NAMES}, pending) VALUES " + ", ".join(
            [self._row] * len(rows)
        )
        return statement, tuple(values)

    async def earliest(self, connection: AsyncConnection) -> datetime | None:
        after: Any = None
        while page := await self._dirty(connection, after):
            committed = await self._committed(connection, [row.number for row in page])
            waiting: list[datetime] = [row.time for row in page if row.number not in committed]
            if waiting:
                return min(waiting)
            if len(page) < IN_FLIGHT_AT_A_TIME:
                break
            after = page[-1]
        return None

    async def _dirty(self, connection: AsyncConnection, after: Any) -> Sequence[Any]:
        order = (commits.c.time, commits.c.number)
        found = sa.select(commits.c.number, commits.c.time).where(commits.c.pending == sa.true())
        if after is not None:
            found = found.where(self.beyond(order, (after.time, after.number)))
        found = found.order_by(*order).limit(IN_FLIGHT_AT_A_TIME)
        # For one transaction only: that of the next statement.
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        return (await connection.execute(found)).all()

    async def _committed(self, connection: AsyncConnection, numbers: Sequence[int]) -> set[int]:
        found = sa.select(commits.c.number).where(commits.c.number.in_(numbers))
        return set((await connection.execute(found)).scalars())

    async def most_bytes(self, connection: AsyncConnection) -> int:
        found = await connection.exec_driver_sql("SELECT @@max_allowed_packet")
        return int(found.scalar_one())

    _lock = "CONCAT('doubledecker/', LEFT(SHA2(DATABASE(), 256), 40))"

    async def lock_schema(self, connection: AsyncConnection) -> None:
        got = await connection.exec_driver_sql(f"SELECT GET_LOCK({self._lock}, {LOCK_WITHIN})")
        if got.scalar_one() != 1:  # where others hold it, it says so and raises nothing
            raise OperationalError("GET_LOCK", None, Exception(LOCK_WAIT_TIMEOUT))

    async def unlock_schema(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql(f"SELECT RELEASE_LOCK({self._lock})")

    async def unique(self, connection: AsyncConnection) -> set[str]:
        found = await connection.exec_driver_sql(
            "SELECT DISTINCT index_name FROM information_schema.statistics "
            "WHERE table_schema = DATABASE() AND table_name = 'bus_commits' AND non_unique = 0"
        )
        return set(found.scalars())

    def beyond(self, columns: Sequence[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
        # Of a comparison of rows, the optimizer makes no range of an index.
        pairs = list(zip(columns, values, strict=True))
        return sa.or_(
            *(
                sa.and_(*(own == value for own, value in pairs[:n]), pairs[n][0] > pairs[n][1])
                for n in range(len(pairs))
            )
        )


DIALECTS: Mapping[str, type[Dialect]] = {"postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MySQL}


def dialect_for(name: str) -> Dialect:
    """Returns what differs for a database, by the name in its URL's scheme."""
    return DIALECTS[name]()
