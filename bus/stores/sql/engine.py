"""Connects to the database that a URL names: one pool for each process.

Each statement is a transaction of its own, so that a client that freezes holds none open; several
are one where `transaction` is asked for.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bus.common import clock
from bus.errors import BusError, ConfigurationError, StoreUnavailable
from bus.stores.sql.dialects import Dialect, dialect_for
from bus.stores.sql.failures import (
    ANSWER_WITHIN,
    LOCK_WAITS,
    LOG,
    Kind,
    NotConnected,
    Setting,
    bounded,
    code_of,
    had_ended,
    is_of_store,
    is_read_only,
    kind_of,
    no_driver,
    translated,
)
from bus.stores.sql.reaching import WithTls, by_aiomysql

Result = TypeVar("Result")

log = structlog.get_logger()

CONNECT_WITHIN = 5.0
KEPT, BESIDES = 5, 15
"""Connections that are kept, and how many more there may be at a time."""

STALLED = 60.0
"""Seconds for which a client may stand still within a transaction."""

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
LONGEST = 0.5
"""How many seconds an answer may take and still correct a known time."""


class Pool(NamedTuple):
    """How connections are kept. `set_up` is said to each besides, by the name in the URL's scheme;
    one that is older than `recycled` seconds is replaced (-1: never)."""

    kept: int = KEPT
    besides: int = BESIDES
    set_up: Mapping[str, Sequence[str]] = {}
    recycled: int = -1


def connect(
    url: str, *, transacts: bool = False, setting: Setting = LOG, pool: Pool | None = None
) -> AsyncEngine:
    """Returns an engine for a URL, not yet connected. On its connections each statement is a
    transaction of its own; or, if it `transacts`, a transaction ends by a commit.

    Raises: ConfigurationError, which quotes nothing of the URL but its scheme.
    """
    pool = pool or Pool()
    scheme = url.partition(":")[0]
    base, _, driver = scheme.partition("+")
    try:
        parsed = sa.make_url(url)
        dialect = dialect_for(base)
        engine = create_async_engine(
            parsed,
            isolation_level="READ COMMITTED" if transacts else "AUTOCOMMIT",
            skip_autocommit_rollback=True,
            hide_parameters=True,
            pool_size=pool.kept,
            max_overflow=pool.besides,
            pool_recycle=pool.recycled,
            pool_timeout=CONNECT_WITHIN,
            pool_use_lifo=True,
            connect_args=dialect.connect_args(CONNECT_WITHIN),
        )
    except ModuleNotFoundError:
        raise no_driver(driver, setting) from None
    except (ArgumentError, InvalidRequestError, NoSuchModuleError, ValueError) as error:
        raise ConfigurationError(
            f"{setting.name} cannot be used ({type(error).__name__}): write it as "
            f"{scheme}://user:password@host:port/database"
        ) from None
    event.listen(engine.sync_engine, "do_connect", WithTls(parsed.query, setting.name))
    event.listen(engine.sync_engine, "do_connect", by_aiomysql)
    statements = [*dialect.set_up, *pool.set_up.get(base, ())]
    event.listen(engine.sync_engine, "connect", _set_up(dialect, statements))
    event.listen(engine.sync_engine, "handle_error", _leave)
    event.listen(engine.sync_engine, "close", _let_go)
    return engine


def transacting(engine: AsyncEngine) -> AsyncEngine:
    """Returns an engine for the same database that `transacts`, with connections of its own."""
    return connect(engine.url.render_as_string(hide_password=False), transacts=True)


def _leave(context: sa.ExceptionContext) -> None:
    """Has the pool replace all its connections once a server takes no writes: after a fail-over,
    the same URL leads to another one. Or once one had ended, which SQLAlchemy does not notice."""
    error = context.original_exception
    if is_read_only(error) or had_ended(error):
        context.is_disconnect = True


def _let_go(connection: Any, _: Any) -> None:
    """Closes what had ended, before SQLAlchemy has aiomysql say farewell there: uvloop raises."""
    driver = connection.driver_connection
    writer = getattr(driver, "_writer", None)
    if writer is not None and writer.is_closing():
        driver.close()


def _set_up(dialect: Dialect, statements: Sequence[str]) -> Callable[[Any, Any], None]:
    def set_up(connection: Any, _: Any) -> None:
        dialect.adapt(connection.driver_connection)
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    return set_up


async def _roll_back(connection: AsyncConnection) -> None:
    """Undoes what is open; if that fails, nobody gets the connection any more."""
    try:
        await connection.exec_driver_sql("ROLLBACK")
    except BaseException as error:
        await connection.invalidate()
        if not is_of_store(error):
            raise


class Database:
    """What is asked of a database, each bounded in time; and the time by its clock."""

    def __init__(
        self, engine: AsyncEngine, setting: Setting = LOG, *, stalled: float = STALLED
    ) -> None:
        self.engine = engine
        self.setting = setting
        self._stalled = stalled
        self.dialect = dialect_for(engine.dialect.name)
        self._began: float | None = None
        """The server's time, in seconds, when the process's steady clock began."""

    @property
    def name(self) -> str:
        """The database's name, for people."""
        return self.dialect.label(self.engine.dialect)

    def translated(self, error: BaseException, *, writing: bool) -> BusError:
        """Returns the bus's error for a database's error."""
        return translated(self.name, error, writing=writing, setting=self.setting)

    def now(self) -> datetime:
        """Returns the time by the server's clock: its last answer, continued by a clock that nobody
        sets. In UTC, in whole milliseconds."""
        if self._began is None:
            return clock.now()
        return clock.at(self._began + time.clock_gettime(_STEADY))

    async def look(self) -> None:
        """Asks the server for its time. Raises: StoreUnavailable."""
        asked = 0.0

        async def ask(connection: AsyncConnection) -> float:
            nonlocal asked
            asked = time.clock_gettime(_STEADY)
            return float((await connection.exec_driver_sql(self.dialect.clock)).scalar_one())

        server = await self.reading(ask)
        took = time.clock_gettime(_STEADY) - asked
        if took < LONGEST or self._began is None:
            self._began = server - asked - took / 2

    async def connected(self) -> AsyncConnection:
        """Returns a connection, which the caller closes. Raises: like `connection`."""
        connection = self.engine.connect()
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                return await connection.start()
        except TimeoutError as error:
            raise NotConnected(f"no connection within {CONNECT_WITHIN:.0f} s") from error

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Lends a connection on which each statement is a transaction of its own.

        Raises: NotConnected, and the driver's errors.
        """
        connection = await self.connected()
        try:
            yield connection
        except Exception as error:
            if kind_of(error) is Kind.NOT_ALLOWED:
                # MariaDB and MySQL give rights in a database with its next use by a connection.
                await connection.invalidate()
            raise
        finally:
            await connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Lends a connection for one transaction, which is committed at the end of the block.

        It is begun by a statement: the connection's own settings, which its next user finds, are
        left alone. Raises: the driver's errors.
        """
        async with self.connection() as connection:
            try:
                await connection.exec_driver_sql(self.dialect.begin)
                yield connection
                await connection.exec_driver_sql("COMMIT")
            except Exception:
                await _roll_back(connection)
                raise
            except BaseException:
                await connection.invalidate()
                raise

    async def rows(
        self, statement: sa.Executable, seconds: float = ANSWER_WITHIN
    ) -> Sequence[sa.Row[Any]]:
        """Returns what a query finds. Raises: StoreUnavailable."""

        async def ask(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return (await connection.execute(statement)).all()

        found: Sequence[sa.Row[Any]] = await self.reading(ask, seconds)
        return found

    async def reading(
        self, ask: Callable[[AsyncConnection], Any], seconds: float = ANSWER_WITHIN
    ) -> Any:
        """Returns what `ask` does; asks again where the connection was one that the server had cut.

        Raises: StoreUnavailable.
        """
        try:
            return await self._asked(ask, seconds)
        except Exception as error:
            if not is_of_store(error):
                raise
            if kind_of(error) is not Kind.UNCLEAR or isinstance(error, TimeoutError):
                raise self.translated(error, writing=False) from error
        try:
            return await self._asked(ask, seconds)
        except Exception as error:
            if is_of_store(error):
                raise self.translated(error, writing=False) from error
            raise

    async def _asked(self, ask: Callable[[AsyncConnection], Any], seconds: float) -> Any:
        async with bounded(seconds), self.connection() as connection:
            return await ask(connection)

    async def write(self, statement: sa.Executable, seconds: float = ANSWER_WITHIN) -> int:
        """Returns how many rows a statement changed; repeats it if others were in the way.

        Raises: what `translated` gives for the driver's errors.
        """

        async def change() -> int:
            async with self.connection() as connection:
                return int((await connection.execute(statement)).rowcount)

        return int(await self._repeated(change, seconds))

    async def changing(
        self, change: Callable[[AsyncConnection], Awaitable[Any]], seconds: float = ANSWER_WITHIN
    ) -> Any:
        """Returns what `change` does within a transaction; repeats it if others were in the way, or
        were first where it adds a row.

        Raises: what `translated` gives for the driver's errors.
        """

        async def changed() -> Any:
            async with self.transaction() as connection:
                return await change(connection)

        return await self._repeated(changed, seconds, {Kind.AGAIN, Kind.TAKEN})

    async def _repeated(
        self,
        change: Callable[[], Awaitable[Any]],
        seconds: float,
        kinds: Collection[Kind] = frozenset({Kind.AGAIN}),
    ) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                async with bounded(seconds):
                    return await change()
            except Exception as error:
                if not is_of_store(error):
                    raise
                if kind_of(error) not in kinds or time.monotonic() > deadline:
                    raise self.translated(error, writing=True) from error
                await self.make_way(error)
            await asyncio.sleep(clock.jittered(0.02))

    async def make_way(self, error: BaseException) -> None:
        """Ends transactions that stand still, if an error says that somebody held a lock."""
        if code_of(error) in LOCK_WAITS:
            await self.end_stalled()

    async def end_stalled(self) -> None:
        """Ends transactions whose processes stand still amid a statement, which a server does not
        take for idle. Where it cannot be asked, nothing is done."""
        end = partial(self.dialect.end_stalled, seconds=self._stalled)
        with suppress(StoreUnavailable):
            if ended := await self.reading(end):
                log.warning("stalled_transactions_ended", store=self.name, count=ended)

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


class Held:
    """A connection that is kept from one use to the next: to lend one takes ten times as long as
    the driver takes for a statement. While it is in use, others are lent."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: AsyncConnection | None = None
        self._in_use = False
        self._keeps = False

    def open(self) -> None:
        """Keeps the connection from now on."""
        self._keeps = True

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[Any]:
        """Lends the driver's own connection, on which each statement is a transaction of its own.
        After any error it is discarded: the pool does not see what its driver is used for.

        Raises: NotConnected, and the driver's errors.
        """
        keeps = not self._in_use
        self._in_use = True
        connection = self._kept if keeps and self._kept else await self._begun(keeps)
        try:
            yield (await connection.get_raw_connection()).driver_connection
        except BaseException as error:
            self._kept = None if keeps else self._kept
            await connection.invalidate()
            await connection.close()
            if is_read_only(error):
                await self._database.engine.dispose()
            raise
        else:
            if keeps and self._keeps:
                self._kept = connection
            else:
                await connection.close()
        finally:
            self._in_use = self._in_use and not keeps

    async def _begun(self, keeps: bool) -> AsyncConnection:
        try:
            return await self._database.connected()
        except BaseException:
            self._in_use = self._in_use and not keeps
            raise

    async def close(self) -> None:
        """Gives it back, and keeps none any more."""
        self._keeps = False
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.close()
