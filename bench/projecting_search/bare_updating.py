"""The consumer written by hand that has the engine update documents: some fields are set, or one is
added to by a script."""

from collections.abc import Sequence

from opensearchpy import AsyncOpenSearch

from bench.projecting_search.bare import Lines, put, run
from bench.projecting_sql.bare import Row

ADD = "ctx._source.events += params.by; ctx._source.note = params.note"


async def store(client: AsyncOpenSearch, index: str, rows: Sequence[Row]) -> None:
    lines: Lines = []
    for key, number, owner, note in rows:
        lines.append({"update": {"_id": key}})
        if owner is None:
            script = {"source": ADD, "params": {"by": number, "note": note}}
            lines.append({"script": script, "upsert": {"events": number, "note": note}})
        else:
            document = {"events": number, "owner": owner, "note": note}
            lines.append({"doc": document, "doc_as_upsert": True})
    await put(client, index, lines)


if __name__ == "__main__":
    run(store)
