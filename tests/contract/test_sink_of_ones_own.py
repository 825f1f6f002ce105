"""The sink that docs/read-stores.md shows keeps the contract, and a service runs on it."""

import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from redis import Redis

from bus import (
    Bus,
    Projection,
    Projections,
    Query,
    Router,
    Settings,
    StoreUnavailable,
    Upsert,
    Worker,
)
from bus.stores.collections import Target
from bus.stores.sink import Place, Sink
from bus.testing.contracts.sink_contract import Rows, SinkContract
from tests.service.sheets import Job, Post, Posted, commands
from tests.waiting import until
from tools.services.ports import free_ports

PAGE = Path(__file__).parents[2] / "docs" / "read-stores.md"


@pytest.fixture
def shown_in_docs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the page shows, as it stands there."""
    found = re.search(r"```python\n# redis_sink\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    module = ModuleType("redis_sink")
    monkeypatch.setitem(sys.modules, "redis_sink", module)
    exec(compile(found[1], str(PAGE), "exec"), vars(module))
    return module


@pytest.fixture
def redis(redis_server: str) -> Iterator["Redis"]:
    """A client of an empty Redis."""
    with Redis.from_url(redis_server, decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture
def own(shown_in_docs: Any, redis: "Redis", redis_server: str) -> Any:
    """The sink that the page shows, on an empty Redis."""
    return shown_in_docs.RedisSink(redis_server)


class TestSinkOfOnesOwn(SinkContract):
    @pytest.fixture
    def sink(self, own: Any) -> Sink:
        sink: Sink = own
        return sink

    @pytest.fixture
    async def places(self, sink: Sink) -> AsyncIterator[Sequence[Place]]:
        places = [sink.place("service") for _ in range(2)]
        yield places
        for place in places:
            await place.close()

    @pytest.fixture(autouse=True)
    def _client(self, redis: "Redis") -> None:
        self.redis = redis

    async def rows(self, place: Place, target: Target) -> Rows:
        return rows_in(self.redis, target.collection)

    async def shown(self, place: Place, name: str) -> Rows | None:
        found: Any = self.redis.hget("shown", name)
        return rows_in(self.redis, found) if found else None


def rows_in(redis: "Redis", collection: str) -> Rows:
    found: Any = redis.hgetall(f"{collection}:rows")
    return {key: held(json.loads(row)) for key, row in found.items()}


def held(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


async def test_a_service_builds_reads_and_rebuilds_on_it(
    own: Any, shown_in_docs: Any, redis: "Redis"
) -> None:
    projection: Projection[Any] = Projection("jobs", of=[Job], sink=own)

    @projection.on(Posted)
    def posted(event: Posted) -> Upsert:
        return Upsert(title=event.title)

    class TitleOf(Query[str]):
        job_id: str

    queries = Router("queries")

    @queries.query
    async def title_of(query: TitleOf, rows: shown_in_docs.RedisRows) -> str:
        row = await rows.get(query.job_id)
        return row["title"] if row else ""

    bus = Bus(
        "sheets",
        routers=[commands(), queries],
        projections=[projection],
        settings=Settings.in_memory(),
    )
    async with bus, Worker(bus):
        receipt = await bus.execute(Post(job_id="a", title="Baker"))
        assert await bus.query(TitleOf(job_id="a"), after=receipt) == "Baker"
        await Projections(bus).rebuild("jobs")

        async def rebuilt() -> bool:
            return rows_in(redis, "jobs__v1r2") == {"a": {"title": "Baker"}}

        await until(rebuilt, "the row in the second collection")
        assert await bus.query(TitleOf(job_id="a")) == "Baker"


async def test_a_server_that_is_away_is_an_outage(shown_in_docs: Any) -> None:
    place = shown_in_docs.RedisSink(f"redis://127.0.0.1:{free_ports(1)[0]}/0").place("sheets")
    with pytest.raises(StoreUnavailable, match="Redis"):
        await place.versions(Target("jobs", "jobs__v1", False, place="redis"), ["job-a"])
    await place.close()
