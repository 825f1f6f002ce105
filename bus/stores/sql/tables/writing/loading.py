"""Rows that whole streams make, for a table that is being built: nothing of them is there yet."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from bus.stores.collections import Changes, Write
from bus.stores.sql.tables.refusals import Phase
from bus.stores.sql.tables.writing.batch import Batch
from bus.stores.sql.tables.writing.folding import Folding, Row, apply_all


class Load(Batch):
    """A batch whose rows are new, as its streams are: they are made in memory and added whole."""

    async def run(self, changes: Changes) -> bool:
        """Adds rows and versions; returns whether all of them were new. Raises: what `write`
        raises."""
        return await self.write(changes, dict.fromkeys(changes.versions, 0))

    async def _change(self, connection: AsyncConnection, writes: Sequence[Write]) -> None:
        self._phase = Phase.ROWS
        rows = apply_all(self._table, writes, partial(Row, None))
        made = {key: row.values for key, row in rows.items() if row.values is not None}
        await Folding(connection, self._table).insert(made)


def without(changes: Changes, streams: Sequence[str]) -> Changes:
    """Returns what changes other streams."""
    writes = [write for write in changes.writes if write.stream not in streams]
    versions = {name: v for name, v in changes.versions.items() if name not in streams}
    return Changes(writes, versions)
