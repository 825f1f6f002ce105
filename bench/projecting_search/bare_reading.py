"""The consumer written by hand that reads the documents of a batch, changes them, and stores them
as a whole: what is done where an engine has no scripts, and by whoever changes more than a sum."""

from collections.abc import Sequence
from typing import Any

from opensearchpy import AsyncOpenSearch

from bench.projecting_search.bare import Lines, put, run
from bench.projecting_sql.bare import Row


async def store(client: AsyncOpenSearch, index: str, rows: Sequence[Row]) -> None:
    keys = list({key for key, *_ in rows})
    answer = await client.mget(body={"ids": keys}, index=index)
    found: dict[str, dict[str, Any]] = {
        entry["_id"]: entry["_source"] for entry in answer["docs"] if entry["found"]
    }
    for key, number, owner, note in rows:
        document = found.setdefault(key, {"events": 0})
        if owner is None:
            document["events"] += number
        else:
            document |= {"events": number, "owner": owner}
        document["note"] = note
    lines: Lines = [line for key in keys for line in ({"index": {"_id": key}}, found[key])]
    await put(client, index, lines)


if __name__ == "__main__":
    run(store)
