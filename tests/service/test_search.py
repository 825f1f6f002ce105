"""Services whose projections are kept in OpenSearch and in Elasticsearch."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from bus import (
    Bus,
    DeadLetters,
    Projections,
    Recovery,
    Settings,
    StoreUnavailable,
    Worker,
)
from tests.service.rebuild_contract import Brisk
from tests.service.searching import (
    Close,
    CountTowns,
    FindJobs,
    GetTitle,
    Retitle,
    post,
    service,
)
from tests.waiting import until
from tools.services.jars.search import call


class TestSearch(Brisk):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        """The broker has no part in these."""
        return real_settings.model_copy(update={"amqp_url": "memory://"})

    @pytest.fixture
    def make(self, settings: Settings, unique: str, search_url: str) -> Callable[..., Bus]:
        return partial(service, settings, unique, search_url)

    async def until_read(self, bus: Bus, *collections: str) -> None:
        async def are_read() -> bool:
            found = await Projections(bus).status()
            read = {status.collection for status in found if status.state == "read"}
            return read >= set(collections)

        await until(are_read, f"{collections} are read", within=60)

    async def test_a_search_finds_what_the_receipt_tells_of(self, make: Callable[..., Bus]) -> None:
        async with make() as bus, Worker(bus):
            for number in range(5):
                receipt = await post(bus, [f"j{number}"])
                found = await bus.query(FindJobs(word="baker"), after=receipt, timeout=30)
                assert len(found) == number + 1
                assert await bus.query(CountTowns(), after=receipt) == {"Bern": number + 1}
            receipt = await bus.execute(Retitle(job_id="j0", title="cook"))
            assert await bus.query(FindJobs(word="cook"), after=receipt) == {"j0": "cook"}
            receipt = await bus.execute(Close(job_id="j0"))
            assert await bus.query(FindJobs(word="cook"), after=receipt) == {}
            assert await bus.query(CountTowns(), after=receipt) == {"Bern": 4}

    async def test_an_index_is_built_from_the_history(self, make: Callable[..., Bus]) -> None:
        async with make(without_search=True) as before:
            await post(before, [f"j{number}" for number in range(700)], town="Bonn")
            await before.execute(Close(job_id="j3"))
        async with make(partitions=2) as bus, Worker(bus):
            await self.until_read(bus, "job_search__v1", "towns__v1")
            assert len(await bus.query(FindJobs(word="baker"))) == 699
            assert await bus.query(CountTowns()) == {"Bonn": 699}

    async def test_readers_move_to_a_rebuilt_index_and_back_and_see_no_less_meanwhile(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus, Worker(bus):
            receipt = await post(bus, [f"j{number}" for number in range(50)])
            await bus.query(FindJobs(word="baker"), after=receipt, timeout=30)
            await bus.query(CountTowns(), after=receipt, timeout=30)
            seen: list[tuple[int, int]] = []
            done = asyncio.Event()

            async def read() -> None:
                while not done.is_set():
                    jobs = len(await bus.query(FindJobs(word="baker")))
                    seen.append((jobs, (await bus.query(CountTowns()))["Bern"]))

            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                for name in ("job_search", "towns"):
                    collection = await Projections(bus).rebuild(name)
                    await self.until_read(bus, collection)
                await until(partial(self.rolled_back, bus, "towns"), "readers went back")
                await post(bus, ["late"])
                done.set()
            assert {number for both in seen for number in both} <= {50, 51}
            assert len(seen) > 3

    async def test_others_search_under_the_projections_name(
        self, make: Callable[..., Bus], search_url: str, unique: str
    ) -> None:
        async def found(name: str) -> list[str]:
            call(search_url, "POST", f"/{unique}job_search__v*/_refresh")
            hits = call(search_url, "GET", f"/{unique}{name}/_search")["hits"]["hits"]
            return sorted(hit["_source"]["title"] for hit in hits)

        async with make() as bus, Worker(bus):
            receipt = await post(bus, ["j1", "j2"])
            receipt = await bus.execute(Close(job_id="j2"))
            await bus.query(FindJobs(word="baker"), after=receipt, timeout=30)
            assert await found("job_search") == ["baker"]
        async with make(version=2) as bus, Worker(bus):
            await self.until_read(bus, "job_search__v2", "towns__v2")

            async def moved() -> bool:
                return await found("job_search") == ["BAKER"]

            await until(moved, "the alias leads to the new index")
            assert await found("job_search__v1_shown") == ["baker"]

    async def test_an_index_that_has_the_projections_name_is_left_alone(
        self,
        make: Callable[..., Bus],
        search_url: str,
        unique: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        call(search_url, "PUT", f"/{unique}towns/_doc/mine?refresh=true", {"is": "mine"})
        async with make() as bus, Worker(bus):
            receipt = await post(bus, ["j1"])
            assert await bus.query(CountTowns(), after=receipt, timeout=30) == {"Bern": 1}
            told = ""

            def is_told() -> bool:
                nonlocal told
                told += capsys.readouterr().err
                return "not_shown_by_name" in told

            await until(is_told, "it is told that there is an index of that name")
        assert "there is an index of that name" in told
        assert call(search_url, "GET", f"/{unique}towns/_doc/mine")["_source"] == {"is": "mine"}

    async def test_a_document_that_the_index_refuses_parks_its_stream_until_it_can_be_written(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make() as bus, Worker(bus):
            await post(bus, ["j1", "bad", "j2"])
            await post(bus, ["worse"], pay="a secret sum")
            receipt = await post(bus, ["j3"])
            assert len(await bus.query(FindJobs(word="baker"), after=receipt, timeout=30)) == 4

            async def parked() -> Any:
                return await DeadLetters(bus).streams()

            (letter,) = await until(parked, "the stream is parked")
            assert "failed to parse field [pay] of type [integer]" in letter.reason
            assert "secret" not in f"{letter}"
            more = await post(bus, ["j4"])
            assert len(await bus.query(FindJobs(word="baker"), after=more, timeout=30)) == 5
            assert (await bus.query(CountTowns(), after=more, timeout=30)) == {"Bern": 6}
        async with make(tolerant=True) as bus, Worker(bus):
            await DeadLetters(bus).retry(all=True)

            async def none() -> bool:
                return not await DeadLetters(bus).streams()

            await until(none, "no stream is parked")
            receipt = await post(bus, ["j5"])
            assert len(await bus.query(FindJobs(word="baker"), after=receipt, timeout=30)) == 7

    async def test_an_audit_finds_what_others_changed_and_repairs_it(
        self, make: Callable[..., Bus], search_url: str, unique: str
    ) -> None:
        async with make() as bus, Worker(bus):
            receipt = await post(bus, ["a", "b", "c", "d"])
            receipt = await bus.execute(Close(job_id="d"))
            await bus.query(FindJobs(word="baker"), after=receipt, timeout=30)
            await bus.query(CountTowns(), after=receipt, timeout=30)
            for name in ("job_search", "towns"):
                assert (await Projections(bus).audit(name)).is_right
            jobs, towns = f"/{unique}job_search__v1", f"/{unique}towns__v1"
            call(search_url, "POST", f"{jobs}/_update/a", {"doc": {"title": "by hand"}})
            call(search_url, "DELETE", f"{jobs}/_doc/b")
            call(search_url, "PUT", f"{jobs}/_doc/c", {"title": "by hand"})
            call(search_url, "POST", f"{jobs}/_update/d", {"doc": {"_bus": {"hidden": False}}})
            call(search_url, "POST", f"{towns}/_update/Bern", {"doc": {"jobs": 17}})
            stray = {"jobs": 1, "_bus": {"key": "Nowhere", "hidden": False, "marks": []}}
            call(search_url, "PUT", f"{towns}/_doc/Nowhere", stray)
            found = await Projections(bus).audit("job_search")
            kinds = {difference.key: difference.kind for difference in found.differences}
            assert kinds == {"a": "differs", "b": "missing", "c": "missing", "d": "stray"}
            found = await Projections(bus).audit("towns")
            kinds = {difference.key: difference.kind for difference in found.differences}
            assert kinds == {"Bern": "differs", "Nowhere": "stray"}
            for name in ("job_search", "towns"):
                assert (await Projections(bus).audit(name, repair=True)).is_right
                assert not (await Projections(bus).audit(name)).differences
            receipt = await bus.execute(Retitle(job_id="b", title="cook"))
            assert await bus.query(FindJobs(word="cook"), after=receipt) == {"b": "cook"}
            receipt = await post(bus, ["e"])
            assert await bus.query(CountTowns(), after=receipt) == {"Bern": 4}
            assert len(await bus.query(FindJobs(word="baker"), after=receipt)) == 3

    async def test_a_projection_moves_from_documents_to_an_index_by_a_new_version(
        self, make: Callable[..., Bus]
    ) -> None:
        async with make(among_documents=True) as old, Worker(old):
            receipt = await post(old, [f"j{number}" for number in range(20)])
            assert await old.query(GetTitle(job_id="j7"), after=receipt, timeout=30) == "baker"
            async with make(version=2) as new, Worker(new):
                await self.until_read(new, "job_search__v2")
                receipt = await post(new, ["more"])
                found = await new.query(FindJobs(word="BAKER"), after=receipt, timeout=30)
                assert len(found) == 21

    async def test_a_changed_declaration_asks_for_a_new_version(
        self, make: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with make() as bus:
            assert not await bus.runtime.catalogue.problems(bus.runtime.projections[0])
        changed = {"properties": {"jobs": {"type": "keyword"}, "rank": {"type": "long"}}}
        monkeypatch.setattr("tests.service.searching.TOWNS", changed)
        async with make() as bus:
            towns = bus.runtime.projections[1]
            problems = list(await bus.runtime.catalogue.problems(towns))
        assert len(problems) == 2
        assert "the field 'jobs' is long in its mapping, and declared as keyword" in problems[0]
        assert "the field 'rank' is not in its mapping" in problems[1]
        assert all("raise the projection's version=" in problem for problem in problems)

    async def test_an_engine_that_is_away_is_an_outage_for_its_projections_alone(
        self, settings: Settings, unique: str
    ) -> None:
        async with service(settings, unique, "http://127.0.0.1:9") as bus, Worker(bus):
            receipt = await post(bus, ["j1"])
            with pytest.raises(StoreUnavailable, match=r"127.0.0.1:9 cannot be reached"):
                await bus.query(FindJobs(word="baker"), after=receipt, timeout=5)
            assert not await DeadLetters(bus).streams()

    async def test_an_index_that_is_somebody_elses_stops_its_projection_alone(
        self, make: Callable[..., Bus], search_url: str, unique: str
    ) -> None:
        path = f"/{unique}job_search__v1"
        call(search_url, "PUT", path)
        async with make() as bus, Worker(bus):
            receipt = await post(bus, ["j1"])
            assert await bus.query(CountTowns(), after=receipt, timeout=30) == {"Bern": 1}
            told = [problem.what for problem in (await bus.health()).problems]
            assert any("is not the bus's, and is left as it is" in what for what in told)
            with pytest.raises(StoreUnavailable, match="left as it is"):
                await bus.query(FindJobs(word="baker"), after=receipt, timeout=5)
            steps: list[str] = []
            assert (await Recovery(bus, steps.append).run()).rebuilt == ()
            assert [step for step in steps if "is passed over" in step and "left as it is" in step]
            assert not call(search_url, "GET", path)[path[1:]]["mappings"]
            call(search_url, "DELETE", path)  # and nobody asks for health

            async def is_found() -> bool:
                with suppress(StoreUnavailable):
                    return bool(await bus.query(FindJobs(word="baker"), after=receipt, timeout=5))
                return False

            await until(is_found, "the index is made and filled", within=60)
