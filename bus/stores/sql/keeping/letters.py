"""Dead letters in SQL: a row for each, with columns for what they are found by, and all of it as
one document."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bus.common import clock
from bus.data.payload import Document
from bus.stores.deadletters import FAILED, GROUPED, KeepsLetters
from bus.stores.sql.engine import Database
from bus.stores.sql.keeping.documents import document_in, kept
from bus.stores.sql.schema import STREAM, Json, Moment, Word, innodb, metadata

PAGE = 500

letters = sa.Table(
    "bus_dead_letters",
    metadata,
    sa.Column("id", Word(STREAM), primary_key=True),
    sa.Column("fingerprint", Word(), nullable=False),
    sa.Column("queue", Word(), nullable=False),
    sa.Column("stream", Word(STREAM), nullable=False),
    sa.Column("first_seen", Moment, nullable=False),
    sa.Column("last_seen", Moment, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("letter", Json, nullable=False),
    sa.Index("bus_dead_letters_fingerprint", "fingerprint"),
    sa.Index("bus_dead_letters_queue", "queue"),
    sa.Index("bus_dead_letters_last_seen", "last_seen"),
    **innodb(),
)
"""`letter` is the document, without the fields that count and time it."""

_COLUMNS = {"_id": "id", "fingerprint": "fingerprint", "queue": "queue", "headers.stream": "stream"}
"""The fields that have a column of their own, as one asks for them."""
_TIMES = ("first_seen", "last_seen", "seen")
_LATEST = (letters.c.last_seen.desc(), letters.c.id)
_FIRST = (letters.c.first_seen, letters.c.id)


class SqlLetters(KeepsLetters):
    """The dead letters in one table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_dead_letter(self, letter: Document, times: int = 1) -> None:
        now = clock.now()

        async def add(connection: AsyncConnection) -> None:
            found = await _locked(connection, letter["_id"])
            if found is None:
                row = {**_row(letter), "first_seen": now, "last_seen": now, "seen": times}
                await connection.execute(letters.insert().values(row))
                return
            failed = {key: value for key, value in letter.items() if key in FAILED}
            row = {**_row({**found, **failed}), "last_seen": now, "seen": letters.c.seen + times}
            await connection.execute(_of(letter["_id"]).values(row))

        await self._database.changing(add)

    async def dead_letters(
        self,
        limit: int = 100,
        *,
        skip: int = 0,
        where: Mapping[str, str] = {},
        fields: Sequence[str] = (),
    ) -> list[Document]:
        selected = self._selected(where, _LATEST, skip + limit)
        found: list[Document] = [document async for document in selected]
        wanted = {"_id", *fields}
        return [
            {key: value for key, value in document.items() if not fields or key in wanted}
            for document in found[skip : skip + limit]
        ]

    async def dead_letter_ids(self, where: Mapping[str, str] = {}) -> list[str]:
        return [document["_id"] async for document in self._selected(where, _FIRST, None)]

    async def dead_letter_groups(self) -> list[Document]:
        groups: dict[str, Document] = {}
        async for letter in self._selected({}, _LATEST, None):
            fingerprint = letter.get("fingerprint", "")
            group = groups.get(fingerprint)
            if group is None:
                shown = {field: letter[field] for field in GROUPED if field in letter}
                times = {key: letter[key] for key in ("first_seen", "last_seen")}
                groups[fingerprint] = {**shown, **times, "count": 1}
            else:
                group["count"] += 1
                group["first_seen"] = min(group["first_seen"], letter["first_seen"])
        return list(groups.values())

    async def change_dead_letter(self, id: str, changes: Document) -> bool:
        async def change(connection: AsyncConnection) -> bool:
            found = await _locked(connection, id)
            if found is None:
                return False
            await connection.execute(_of(id).values(_row({**found, **changes})))
            return True

        return bool(await self._database.changing(change))

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        return await self._database.write(letters.delete().where(letters.c.id.in_(list(ids))))

    async def _selected(
        self, where: Mapping[str, str], order: Sequence[Any], limit: int | None
    ) -> Any:
        """Yields letters whose fields are equal: those with a column by the database, the others
        here, page by page."""
        rest = {key: value for key, value in where.items() if key not in _COLUMNS}
        query = sa.select(letters).order_by(*order)
        for key in where.keys() - rest.keys():
            query = query.where(letters.c[_COLUMNS[key]] == where[key])
        offset = given = 0
        while limit is None or given < limit:
            rows = await self._database.rows(query.offset(offset).limit(PAGE))
            for document in map(_letter, rows):
                if all(_field(document, key) == value for key, value in rest.items()):
                    given += 1
                    yield document
            if len(rows) < PAGE:
                return
            offset += PAGE


async def _locked(connection: AsyncConnection, id: str) -> Document | None:
    """Returns a letter's document, which nobody else changes before the transaction ends."""
    query = sa.select(letters.c.letter).where(letters.c.id == id).with_for_update()
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else document_in(found)


def _of(id: str) -> sa.Update:
    return letters.update().where(letters.c.id == id)


def _row(letter: Document) -> dict[str, Any]:
    rest = {key: value for key, value in letter.items() if key not in _TIMES}
    return {
        "id": letter["_id"],
        "fingerprint": str(letter.get("fingerprint", "")),
        "queue": str(letter.get("queue", "")),
        "stream": str(_field(letter, "headers.stream") or ""),
        "letter": kept(rest),
    }


def _letter(row: Any) -> Document:
    times: dict[str, datetime | int] = {key: getattr(row, key) for key in _TIMES}
    return {**document_in(row.letter), **times}


def _field(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document
