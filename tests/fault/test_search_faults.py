"""Projections in a search engine while it breaks: what is searched equals the log in the end."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from bus import Bus, DeadLetters, Recovery, Settings, StoreUnavailable, Unavailable, Worker
from bus.errors import BusError
from bus.stores.collections import Changes, Target, Write
from bus.stores.search import SearchIndex
from bus.stores.sink import Remove, Upsert
from tests import killing
from tests.service.searching import Close, CountTowns, FindJobs, Post, post, service
from tests.waiting import until
from tools.services.jars.search import SearchNode


@pytest.fixture
def settings(real_settings: Settings) -> Settings:
    """The broker has no part in these."""
    return real_settings.model_copy(update={"amqp_url": "memory://", "sweep_every": 0.5})


@pytest.fixture
def make(settings: Settings, unique: str, search_node: SearchNode) -> Callable[..., Bus]:
    return partial(service, settings, unique, search_node.url)


class Jobs:
    """Posts jobs without a pause, and closes some of them."""

    def __init__(self, bus: Bus, prefix: str = "j") -> None:
        self._bus = bus
        self._prefix = prefix
        self._stop = False
        self.count = 0
        self.open = 0

    async def during(self, fault: Callable[[], Awaitable[None]]) -> None:
        """Goes on while a fault happens, and a while before and after."""
        posting = asyncio.create_task(self._post())
        try:
            await until(lambda: self.count >= 30, "some jobs are posted")
            await fault()
            before = self.count
            await until(lambda: self.count >= before + 30, "jobs are posted after it")
        finally:
            self._stop = True
            await posting

    async def _post(self) -> None:
        while not self._stop:
            id = f"{self._prefix}{self.count}"
            await self._bus.execute(Post(job_id=id, town=f"t{self.count % 3}"))
            self.count += 1
            self.open += 1
            if self.count % 10 == 0:
                await self._bus.execute(Close(job_id=id))
                self.open -= 1
            await asyncio.sleep(0.01)


async def equals_the_log(bus: Bus, jobs: int) -> None:
    """Waits until searches find what the log holds, and nothing twice."""

    async def found() -> bool:
        try:
            receipt = await post(bus, [f"last{os.urandom(4).hex()}"], title="last")
            titles = await bus.query(FindJobs(word="baker"), after=receipt, timeout=5)
            towns = await bus.query(CountTowns(), after=receipt, timeout=5)
        except Unavailable:
            return False
        return len(titles) == jobs and sum(n for t, n in towns.items() if t != "Bern") == jobs

    await until(found, f"{jobs} jobs are found", within=90)
    assert not await DeadLetters(bus).streams()


async def test_an_engine_that_crashes_and_comes_back(
    make: Callable[..., Bus], search_node: SearchNode
) -> None:
    async def fault() -> None:
        await asyncio.to_thread(search_node.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(search_node.start)

    async with make() as bus, Worker(bus):
        jobs = Jobs(bus)
        await jobs.during(fault)
        await equals_the_log(bus, jobs.open)


async def test_an_engine_that_freezes_and_one_whose_disk_is_full(
    make: Callable[..., Bus], search_node: SearchNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.stores.search.index.WRITE_WITHIN", 6.0)
    monkeypatch.setattr("bus.stores.search.engine.ANSWER_WITHIN", 3.0)

    async def frozen() -> None:
        search_node.pause()
        await asyncio.sleep(8)
        search_node.resume()

    async def full() -> None:
        with search_node.read_only():
            await asyncio.sleep(2)

    async with make(partitions=2) as bus, Worker(bus):
        first, second = Jobs(bus, "f"), Jobs(bus, "g")
        await first.during(frozen)
        await second.during(full)
        await equals_the_log(bus, first.open + second.open)


async def test_an_engine_that_comes_back_empty_is_put_right_by_a_recovery(
    make: Callable[..., Bus], search_node: SearchNode
) -> None:
    async with make() as bus, Worker(bus):
        receipt = await post(bus, [f"j{number}" for number in range(40)], town="t1")
        assert len(await bus.query(FindJobs(word="baker"), after=receipt, timeout=30)) == 40
        await bus.query(CountTowns(), after=receipt, timeout=30)
        await bus.runtime.continuity.look()
        await bus.runtime.continuity.note_turn(await bus.runtime.continuity.identities(), {})
        await asyncio.to_thread(search_node.kill)
        await asyncio.to_thread(shutil.rmtree, search_node.folder / "data")
        await asyncio.to_thread(search_node.start)

        async def noticed() -> Any:
            return await bus.runtime.continuity.problem()

        assert "was dropped" in await until(noticed, "it is noticed")
        await post(bus, ["more"], town="t1")
        await Recovery(bus).run()
        await equals_the_log(bus, 41)


STEPS = (
    "before the documents",
    "between the documents",
    "after the jobs",
    "after the documents",
    "after all",
)


async def test_a_worker_killed_at_any_step_applies_nothing_twice(
    settings: Settings, make: Callable[..., Bus], unique: str, search_node: SearchNode
) -> None:
    async with make() as bus:
        await post(bus, [f"j{number}" for number in range(40)], town="t1")
        await bus.execute(Close(job_id="j3"))
    for step in STEPS:
        async with make() as bus:  # so that there is something to do for both projections
            await post(bus, [f"s{STEPS.index(step)}-{number}" for number in range(10)], town="t1")
        await killed(step, settings, unique, search_node.url)
    async with make() as bus, Worker(bus):
        await equals_the_log(bus, 39 + 10 * len(STEPS))


async def killed(step: str, settings: Settings, name: str, url: str) -> None:
    """Runs a worker until it kills itself at a step."""
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
        "BUS_SWEEP_EVERY": "0.5",
    }
    await killing.killed("killed_in_search", step, name, url, environment=environment, within=60)


@pytest.mark.parametrize("versioned", [True, False])
async def test_an_old_event_after_a_removal_raises_nothing(
    search_url: str, unique: str, versioned: bool
) -> None:
    """The engine forgets versions of what is deleted after a second here, and when it next has
    something to do; the bus does not."""
    sink = SearchIndex(
        url=search_url,
        mappings={"properties": {"title": {"type": "keyword"}}},
        settings={"gc_deletes": "1s"},
        prefix=unique,
    )
    place = sink.place("service")
    target = Target("jobs", "jobs__v1", versioned, place=sink.kind)
    made = Changes([Write("a", Upsert(title="x"), "", "job-a", 1)], {"job-a": 1})
    gone = Changes([Write("a", Remove(), "", "job-a", 2)], {"job-a": 2})
    try:
        assert not await place.prepare(target)
        assert await place.write(target, made, {"job-a": 0})
        assert await place.write(target, gone, {"job-a": 1})
        await asyncio.sleep(2)
        await place.index(target).refresh()
        assert not await place.write(target, made, {"job-a": 0})
        assert not await place.write(target, made, {"job-a": 1})
        assert await place.versions(target, ["job-a"]) == {"job-a": 2}
        assert await place.index(target).search(query={"term": {"_bus.hidden": False}}) == []
    finally:
        await place.close()


async def test_failures_are_told_by_their_names_and_never_by_values(
    search_node: SearchNode, unique: str
) -> None:
    """What the engine refuses is about a document; all else is an outage."""
    mappings = {
        "properties": {
            "count": {"type": "integer"},
            "word": {"type": "keyword"},
            "place": {"properties": {"town": {"type": "keyword"}}},
        }
    }
    sink = SearchIndex(url=search_node.url, mappings=mappings, prefix=unique)
    place = sink.place("service")
    target = Target("jobs", "jobs__v1", True, place=sink.kind)

    async def told(change: Upsert, key: str = "a") -> BusError:
        one = Changes([Write(key, change, "", f"job-{key}", 1)], {f"job-{key}": 1})
        with pytest.raises(BusError) as failure:
            await place.write(target, one, {f"job-{key}": 0})
        assert "secret" not in str(failure.value)
        return failure.value

    try:
        with pytest.raises(StoreUnavailable, match="the index"):
            await place.write(target, Changes([], {"job-a": 1}), {"job-a": 0})
        assert not search_node.call("GET", f"/{unique}*")
        assert not await place.prepare(target)
        refused = [
            (Upsert(count="secret"), "failed to parse field [count] of type [integer]"),
            (Upsert(word="secret" * 6000), "immense term in field"),
            (Upsert(place="secret"), "object mapping for [place]"),
            (Upsert(count=10**30), "failed to parse field [count] of type [integer]"),
        ]
        for change, words in refused:
            error = await told(change)
            assert type(error).__name__ == "ProjectionError", error
            assert words in str(error)
        assert "dynamic introduction of [unknown]" in str(await told(Upsert(unknown=1)))
        with search_node.read_only():
            error = await told(Upsert(count=1))
            assert isinstance(error, StoreUnavailable)
            assert "takes no writes" in str(error)
        search_node.call("POST", f"/{unique}jobs__v1/_close")
        assert isinstance(await told(Upsert(count=1)), StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            await place.versions(target, ["job-a"])
    finally:
        await place.close()
