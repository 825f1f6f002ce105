"""The sink that docs/read-stores.md shows keeps the contract, and a service runs on it."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bus import Bus, Projection, Projections, Settings, Upsert, Worker
from bus.stores.collections import Target
from bus.stores.sink import Place, Sink
from bus.testing.contracts.sink_contract import Rows, SinkContract
from tests.service.sheets import Job, Post, Posted, commands
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "read-stores.md"


@pytest.fixture
def shown_in_docs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the page shows, as it stands there."""
    found = re.search(r"```python\n# sqlite_sink\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    module = ModuleType("sqlite_sink")
    monkeypatch.setitem(sys.modules, "sqlite_sink", module)
    exec(compile(found[1], str(PAGE), "exec"), vars(module))
    return module


@pytest.fixture
def sqlite(shown_in_docs: Any, tmp_path: Path) -> Any:
    return shown_in_docs.SqliteSink(str(tmp_path / "rows.db"))


class TestSinkOfOnesOwn(SinkContract):
    @pytest.fixture
    def sink(self, sqlite: Any) -> Sink:
        sink: Sink = sqlite
        return sink

    @pytest.fixture
    async def places(self, sink: Sink) -> Sequence[Place]:
        return [sink.place("service") for _ in range(2)]

    async def rows(self, place: Place, target: Target) -> Rows:
        return await in_file(place, target.collection)

    async def shown(self, place: Place, name: str) -> Rows | None:
        own: Any = place
        found = await own._run(
            lambda file: file.execute(
                "SELECT collection FROM shown WHERE name = ?", [name]
            ).fetchone()
        )
        return await in_file(place, found[0]) if found else None


async def in_file(place: Any, collection: str) -> Rows:
    def read(file: Any) -> Rows:
        found = file.execute("SELECT key, row FROM rows WHERE collection = ?", [collection])
        return {key: held(json.loads(row)) for key, row in found}

    rows: Rows = await place._run(read)
    return rows


def held(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


async def test_a_service_builds_and_rebuilds_on_it(sqlite: Any) -> None:
    projection: Projection[Any] = Projection("jobs", of=[Job], sink=sqlite)

    @projection.on(Posted)
    def posted(event: Posted) -> Upsert:
        return Upsert(title=event.title)

    bus = Bus(
        "sheets",
        routers=[commands()],
        projections=[projection],
        settings=Settings.in_memory(),
    )
    place = sqlite.place("sheets")
    async with bus, Worker(bus):
        await bus.execute(Post(job_id="a", title="Baker"))
        await Projections(bus).rebuild("jobs")

        async def rebuilt() -> bool:
            return await in_file(place, "jobs__v1r2") == {"a": {"title": "Baker"}}

        await until(rebuilt, "the row in the second collection")
