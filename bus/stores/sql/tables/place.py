"""One sink's tables, while a bus is open."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from bus.common.batches import batched
from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.observe.health import Examined, Finding, of_problem
from bus.stores.collections import Changes, Target
from bus.stores.sink import Place
from bus.stores.sql.engine import Database, Pool, connect
from bus.stores.sql.failures import Kind, Setting, is_lost, is_of_store, kind_of
from bus.stores.sql.reaching.server import server_of
from bus.stores.sql.schema import MYSQL
from bus.stores.sql.tables.auditing import Auditing
from bus.stores.sql.tables.copies import Copies
from bus.stores.sql.tables.keys import AT_ONCE, rows_of
from bus.stores.sql.tables.making import WITNESS, Making, checkpoints, has_versions
from bus.stores.sql.tables.views import Views
from bus.stores.sql.tables.writing.batch import Batch
from bus.stores.sql.tables.writing.loading import Load, without

STALLED = 5.0
_MYSQL = (
    # A table that somebody reads cannot be dropped: this is told, and not waited for.
    "SET SESSION lock_wait_timeout = 4, wait_timeout = 15 "
    f"/*M!100300 , idle_transaction_timeout = {STALLED:.0f} */"
)
WRITING = Pool(
    kept=2,
    besides=8,
    set_up={
        "postgresql": [
            f"SELECT set_config('idle_in_transaction_session_timeout', '{STALLED:.0f}s', false),"
            " set_config('application_name', 'doubledecker tables', false)"
        ],
        **{name: [_MYSQL] for name in MYSQL},
    },
    recycled=10,
)
"""A process that freezes in a transaction keeps others waiting for no longer than these seconds."""
LOADS = 3
"""How often what is new is told apart from what is there, if other writers are first."""
READING = Pool(
    kept=2,
    besides=8,
    set_up={
        "postgresql": ["SELECT set_config('default_transaction_read_only', 'on', false)"],
        **{name: ["SET SESSION TRANSACTION READ ONLY"] for name in MYSQL},
    },
)
"""What queries are lent."""


class TablePlace(Place, Examined):
    """Keeps the tables of one projection in one database."""

    def __init__(self, copies: Copies, url: str, service: str) -> None:
        """Raises: ConfigurationError."""
        name = copies.declared.name
        setting = Setting(
            name=f"SqlTable({name!r}, url=...)",
            rights=(
                "grant the URL's user SELECT, INSERT, UPDATE and DELETE on tables, and to make and "
                "drop tables and views (CREATE on the schema in PostgreSQL; CREATE, DROP, INDEX, "
                "CREATE VIEW and SHOW VIEW in MariaDB and MySQL)"
            ),
            tables=(
                "tables of the projection are gone, or were changed: {}; health says which "
                "(`database contents`), and `bus events recover` builds them anew"
            ),
        )
        self._copies = copies
        self._database = Database(
            connect(url, setting=setting, pool=WRITING), setting, stalled=STALLED
        )
        self._reading = Database(connect(url, setting=setting, pool=READING), setting)
        self._making = Making(self._database, copies, service)
        self._views = Views(self._database, service)
        self._auditing = Auditing(self._database)

    @property
    def name(self) -> str:
        """The database's name, for people."""
        return self._database.name

    async def open(self, *, makes: bool = True) -> None:
        if makes:
            await self._making.make_shared()
        else:
            await self._database.look()

    async def close(self) -> None:
        await self._database.close()
        await self._reading.close()

    async def prepare(self, target: Target) -> Sequence[str]:
        return await self._making.prepare(target.collection)

    async def examined(self) -> list[Finding]:
        return [await server_of(self._database)]

    async def examined_collection(self, target: Target) -> list[Finding]:
        """Returns what differs in a table. Raises: StoreUnavailable."""
        differing = await self._making.differing(target.collection)
        return [of_problem(problem, promise="G3") for problem in differing]

    async def drop(self, target: Target) -> None:
        await self._making.drop(target.collection)

    async def write(self, target: Target, changes: Changes, before: Mapping[str, int]) -> bool:
        table = self._copies.of(target.collection)
        if await Batch(self._database, table, target.collection).write(changes, before):
            return True
        await self._check_versions(target)  # else nobody was first, and no try succeeds
        return False

    async def load_streams(self, target: Target, changes: Changes) -> Collection[str]:
        left: dict[str, int] = {}
        table = self._copies.of(target.collection)
        for _ in range(LOADS):
            new = without(changes, list(left))
            if await Load(self._database, table, target.collection).run(new):
                return left
            left = await self.versions(target, list(changes.versions))
        return list(changes.versions)  # somebody else has rows there: they are changed one by one

    async def versions(self, target: Target, streams: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for chunk in batched([WITNESS, *streams] if streams else [], AT_ONCE):
            rows = await self._database.rows(
                rows_of(
                    [checkpoints.c.stream, checkpoints.c.version],
                    [checkpoints.c.stream],
                    [(stream,) for stream in chunk],
                    self._database.engine.dialect,
                    where=checkpoints.c.collection == target.collection,
                )
            )
            found |= {row.stream: row.version for row in rows}
        is_there = found.pop(WITNESS, None) is not None
        if streams and not is_there and await self._making.has_made(target.collection):
            await self._check_versions(target)
        return found

    async def _check_versions(self, target: Target) -> None:
        """Raises: StoreUnavailable if a table has no versions: it was dropped, or somebody has
        taken them away, and events would be applied to its rows once more."""
        has_some = sa.select(has_versions(target.collection).label("has_some"))
        if not (await self._database.rows(has_some))[0].has_some:
            lost = f"{checkpoints.name} lacks what {target.collection} had reached"
            raise StoreUnavailable(f"{self.name}: {self._database.setting.tables.format(lost)}")

    async def reached(self, target: Target, after: str, limit: int) -> dict[str, int]:
        rows = await self._database.rows(
            sa.select(checkpoints.c.stream, checkpoints.c.version)
            .where(checkpoints.c.collection == target.collection, checkpoints.c.stream > after)
            .order_by(checkpoints.c.stream)
            .limit(limit)
        )
        return {row.stream: row.version for row in rows}

    async def identities(self, names: Collection[str] | None = None) -> dict[str, str]:
        return await self._making.identities(names)

    async def show(self, name: str, target: Target | None) -> str | None:
        return await self._views.show(name, self._copies.of(target.collection) if target else None)

    # --- audits ----------------------------------------------------------------------------------

    async def page(self, target: Target, after: Any, limit: int) -> list[Document]:
        return await self._auditing.page(self._copies.of(target.collection), after, limit)

    async def whole(self, target: Target, keys: Sequence[Any]) -> dict[Any, Document]:
        return await self._auditing.whole(self._copies.of(target.collection), keys)

    async def sample(self, target: Target, count: int) -> list[Any]:
        return await self._auditing.sample(self._copies.of(target.collection), count)

    async def replace(
        self, target: Target, key: Any, found: Document | None, wanted: Document | None
    ) -> bool:
        table = self._copies.of(target.collection)
        return await self._auditing.replace(table, key, found, wanted)

    # --- queries ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Lends a session that only reads; each statement sees what is committed by then. Raises:
        StoreUnavailable."""
        try:
            async with AsyncSession(self._reading.engine, expire_on_commit=False) as session:
                yield session
        except Exception as error:
            if not is_of_store(error) or not _is_outage(error):
                raise
            raise self._reading.translated(error, writing=False) from error

    def table(self, target: Target) -> sa.Table:
        """Returns the table of a collection."""
        return self._copies.of(target.collection)


def _is_outage(error: BaseException) -> bool:
    """Returns whether it is the server that fails, and not a statement that is wrong."""
    return is_lost(error) or kind_of(error) is Kind.NOTHING_DONE


@asynccontextmanager
async def lend_session(place: TablePlace, target: Target) -> AsyncIterator[AsyncSession]:
    """Lends a session. Raises: StoreUnavailable."""
    async with place.session() as session:
        yield session


@asynccontextmanager
async def lend_table(place: TablePlace, target: Target) -> AsyncIterator[sa.Table]:
    """Lends the table that readers read."""
    yield place.table(target)
