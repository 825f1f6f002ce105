"""Commits in a transaction of the application's own, which has begun it and ends it, when it likes.

Once that is committed they are published, by the session's own events; what is rolled back, or was
written within a savepoint that is rolled back, is forgotten.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from bus.errors import ConcurrencyError, ConfigurationError, StoreUnavailable
from bus.stores.event_log import Commit
from bus.stores.records import moved_on
from bus.stores.session import Joined
from bus.stores.sql.dialects import Late
from bus.stores.sql.engine import Database
from bus.stores.sql.event_log import SqlEventLog
from bus.stores.sql.failures import Kind, bounded, is_of_store, kind_of, said, translated
from bus.stores.sql.log import heads_of
from bus.stores.sql.schema import commits as table
from bus.stores.sql.schema import versions
from bus.stores.sql.sessions.lent import LentSession
from bus.stores.sql.sessions.marks import WAIT_WITHIN

WHAT = "Bus.unit_of_work(session)"
_PENDING = "bus_pending"
"""The key in a session's `info` of what waits for its commit."""

Identity = tuple[Any, ...]


class Joining:
    """Lets applications' sessions on the log's database store commits."""

    def __init__(self, engine: AsyncEngine, log: SqlEventLog) -> None:
        self._database = Database(engine)
        self._log = log
        self._own: Identity | None = None
        self._same: WeakKeyDictionary[sa.Engine, bool] = WeakKeyDictionary()

    def __call__(self, session: Any) -> "JoinedSession":
        """Returns the session's transaction. Raises: ConfigurationError."""
        check_session(session)
        return JoinedSession(self, self._log, session)

    async def check_same(self, connection: AsyncConnection) -> None:
        """Checks that what is written by a connection waits for a commit; and once for each engine,
        that it leads to the log's own tables.

        Raises: ConfigurationError, StoreUnavailable, the driver's errors.
        """
        dialect, own = connection.dialect, self._database.engine.dialect
        if (dialect.name, dialect.driver) != (own.name, own.driver):
            raise ConfigurationError(
                f"{WHAT}: the session's engine is {dialect.name}+{dialect.driver}, and BUS_LOG_URL "
                f"is {own.name}+{own.driver}; give both the same"
            )
        if await _commits_itself(connection):
            raise ConfigurationError(
                f"{WHAT}: the session's connection commits each statement by itself "
                f"(isolation_level='AUTOCOMMIT'), so that nothing would hold its rows and its "
                f"events together; give it an engine without that"
            )
        if connection.engine.sync_engine in self._same:
            return
        if self._own is None:
            self._own = await self._database.reading(_identity_of)
        await self._compare(connection)
        self._same[connection.engine.sync_engine] = True

    async def _compare(self, connection: AsyncConnection) -> None:
        has_tables = await connection.run_sync(lambda sync: sa.inspect(sync).has_table(table.name))
        found = await _identity_of(connection) if has_tables else None
        if found != self._own:
            assert self._own is not None
            where = f"database {found[0]!r}" if found else f"no table {table.name} there"
            raise ConfigurationError(
                f"{WHAT}: the session's database is not that of BUS_LOG_URL, which is "
                f"{self._own[0]!r} ({where}), and one transaction spans one database; give the "
                f"session an engine for that one, and check its schema (search_path)"
            )

    def failed(self, error: Exception, commits: Sequence[Commit]) -> Exception:
        """Returns what an error means for commits that were to be stored."""
        if isinstance(error, Late):
            return StoreUnavailable(f"{self._database.name}: {said(error)}; nothing was written")
        if not is_of_store(error):
            return error
        if kind_of(error) is Kind.TAKEN:
            return ConcurrencyError(
                f"{moved_on(commits)}: another transaction was first, and this one cannot be "
                f"committed; roll the session back and do all of it again"
            )
        return translated(self._database.name, error, writing=False)


class JoinedSession(Joined):
    """The transaction of an application's session."""

    def __init__(self, joining: Joining, log: SqlEventLog, session: AsyncSession) -> None:
        self._joining = joining
        self._log = log
        self._session = session

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        connection = await self._connection()
        try:
            async with bounded(WAIT_WITHIN):
                rows = (await connection.execute(heads_of(streams))).all()
        except Exception as error:
            raise self._joining.failed(error, ()) from error
        return {row.stream: row.last for row in rows if row.last}

    async def append(self, commits: Sequence[Commit], stored: Callable[[], object]) -> None:
        connection = await self._connection()
        try:
            async with bounded(WAIT_WITHIN):
                await self._log.append_within(connection, commits)
        except Exception as error:
            raise self._joining.failed(error, commits) from error
        session = self._session.sync_session
        _watched(session).add(session, connection, stored)

    async def _connection(self) -> AsyncConnection:
        """Returns the session's connection, in its transaction, on the log's database.

        Raises: ConfigurationError, StoreUnavailable, the driver's errors.
        """
        try:
            connection = await self._session.connection()
        except InvalidRequestError as error:
            raise ConfigurationError(
                f"{WHAT}: the session has no transaction and begins none (it was closed for good, "
                f"or made with autobegin=False, or is to be rolled back): {error!s:.200}"
            ) from error
        await self._joining.check_same(connection)
        return connection


class _Waiting(NamedTuple):
    """Called once a transaction is committed, unless it or one within it is rolled back."""

    within: Sequence[orm.SessionTransaction]
    connection: sa.Connection
    stored: Callable[[], object]


class _Pending:
    """What waits for a session's commit."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    def add(
        self, session: orm.Session, connection: AsyncConnection, stored: Callable[[], object]
    ) -> None:
        """Has `stored` called after the commit of what is open now."""
        innermost = session.get_nested_transaction() or session.get_transaction()
        assert connection.sync_connection is not None
        within = list(_and_around(innermost))
        self._waiting.append(_Waiting(within, connection.sync_connection, stored))

    def commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            # Where the session works within a transaction of somebody else's, that is still open.
            if not one.connection.in_transaction():
                one.stored()

    def forget(self, transaction: orm.SessionTransaction) -> None:
        self._waiting = [one for one in self._waiting if transaction not in one.within]

    def clear(self) -> None:
        self._waiting.clear()


def _committed(session: orm.Session) -> None:
    if (pending := session.info.get(_PENDING)) and session.get_nested_transaction() is None:
        pending.commit()


def _rolled_back(session: orm.Session, transaction: orm.SessionTransaction) -> None:
    if pending := session.info.get(_PENDING):
        pending.forget(transaction)


def _ended(session: orm.Session, transaction: orm.SessionTransaction) -> None:
    if transaction.parent is None and (pending := session.info.get(_PENDING)):
        pending.clear()


_listened: WeakSet[type[orm.Session]] = WeakSet()
"""The classes of sessions whose events are listened to: for each session by itself, that would take
longer than to insert a row."""


def _watched(session: orm.Session) -> _Pending:
    kind = type(session)
    if kind not in _listened:
        event.listen(kind, "after_commit", _committed)
        event.listen(kind, "after_soft_rollback", _rolled_back)
        event.listen(kind, "after_transaction_end", _ended)
        _listened.add(kind)
    pending: _Pending = session.info.setdefault(_PENDING, _Pending())
    return pending


def _and_around(transaction: orm.SessionTransaction | None) -> Any:
    while transaction is not None:
        yield transaction
        transaction = transaction.parent


def check_session(session: Any) -> None:
    """Raises: ConfigurationError unless it is an AsyncSession of the application's own."""
    if not isinstance(session, AsyncSession):
        raise ConfigurationError(
            f"{WHAT}: it takes an AsyncSession of SQLAlchemy's (sqlalchemy.ext.asyncio), and this "
            f"is {type(session).__module__}.{type(session).__qualname__}; make one by "
            f"async_sessionmaker(engine)"
        )
    if isinstance(session.sync_session, LentSession):
        raise ConfigurationError(
            f"{WHAT}: this session was lent to a handler, whose events go with it already; let the "
            f"handler take an Outbox"
        )


async def _commits_itself(connection: AsyncConnection) -> bool:
    raw = await connection.get_raw_connection()
    assert raw.dbapi_connection is not None
    return connection.dialect.detect_autocommit_setting(raw.dbapi_connection)


async def _identity_of(connection: AsyncConnection) -> Identity:
    """Returns what tells a database with tables of the log from another one: its name, and when
    its tables were made; they may be brought to another version while this runs."""
    is_postgresql = connection.dialect.name == "postgresql"
    name = "SELECT current_database()" if is_postgresql else "SELECT DATABASE()"
    database = (await connection.exec_driver_sql(name)).scalar_one()
    made = sa.select(versions.c.version, versions.c.made).order_by(versions.c.version).limit(1)
    return (database, *map(tuple, await connection.execute(made)))
