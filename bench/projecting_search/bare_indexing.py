"""The consumer written by hand that stores each event as a whole document, which holds as long as
every event has all of the document's fields."""

from collections.abc import Sequence

from opensearchpy import AsyncOpenSearch

from bench.projecting_search.bare import Lines, put, run
from bench.projecting_sql.bare import Row


async def store(client: AsyncOpenSearch, index: str, rows: Sequence[Row]) -> None:
    lines: Lines = []
    for key, number, owner, note in rows:
        lines += [{"index": {"_id": key}}, {"events": number, "owner": owner, "note": note}]
    await put(client, index, lines)


if __name__ == "__main__":
    run(store)
