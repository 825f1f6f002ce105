"""An index of a search engine keeps the contract of sinks, and what it promises besides."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import date
from unittest.mock import ANY

import pytest

from bus.errors import ConfigurationError, ProjectionError, StoreUnavailable
from bus.stores.collections import UNUSABLE, Target
from bus.stores.search import SearchIndex
from bus.stores.search.place import SearchPlace
from bus.stores.search.writing import by_stream
from bus.stores.sink import Increment, Place, Remove, Sink, Upsert
from bus.testing.contracts.sink_contract import Rows, SinkContract, changes

MAPPINGS = {
    "properties": {
        "title": {"type": "keyword"},
        "count": {"type": "long"},
        "text": {"type": "text"},
        "tags": {"type": "keyword"},
        "hint": {"type": "completion"},  # an engine adds an analyser of its own
        "place": {"properties": {"town": {"type": "keyword"}}},
    }
}


async def found(place: SearchPlace, name: str) -> Rows | None:
    """What a search finds under a name; None if nothing has it."""
    await place.engine.ask("POST", f"/{name}/_refresh")
    answer = await place.engine.ask("POST", f"/{name}/_search", {"size": 1000})
    if answer is None:
        return None
    hits = [(hit["_id"], hit["_source"]) for hit in answer["hits"]["hits"]]
    return {id: {n: v for n, v in source.items() if n != "_bus"} for id, source in hits}


class TestSearchIndex(SinkContract):
    @pytest.fixture
    def sink(self, search_url: str, unique: str) -> Sink:
        return SearchIndex(url=search_url, mappings=MAPPINGS, prefix=unique)

    @pytest.fixture
    async def places(self, sink: Sink) -> AsyncIterator[Sequence[Place]]:
        places = [sink.place("service"), sink.place("service")]
        async with AsyncExitStack() as stack:
            for place in places:
                stack.push_async_callback(place.close)
                await place.open()
            yield places

    async def test_a_load_with_a_refused_row_loads_nothing(
        self, sink: Sink, place: Place, target: Target
    ) -> None:
        """Of the stream whose document is refused: engines have no transactions."""
        assert isinstance(place, SearchPlace)
        for kind in (target, target._replace(versions_in_documents=True)):
            own = kind._replace(collection=f"jobs__v{2 + kind.versions_in_documents}")
            await place.prepare(own)
            some = changes(("b", Upsert(title="y")), ("a", Upsert(count="many")), a=1, b=1)
            with pytest.raises(ProjectionError, match="mapper_parsing_exception"):
                await place.load_streams(own, some)
            assert await place.versions(own, ["job-a"]) == {}
            good = changes(("b", Upsert(title="y")), ("a", Upsert(count=1)), a=1, b=1)
            assert set(await place.load_streams(own, good)) <= {"job-b"}
            assert set(await place.load_streams(own, good)) == {"job-a", "job-b"}
            assert await found(place, place.index(own).alias) == {
                "a": {"count": 1},
                "b": {"title": "y"},
            }

    async def shown(self, place: Place, name: str) -> Rows | None:
        assert isinstance(place, SearchPlace)
        return await found(place, f"{place._prefix}{name}")

    async def test_a_document_that_a_writer_has_stored_and_not_settled_is_not_corrected(
        self, sink: Sink, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was frozen before it said how far its streams were applied, and goes on later."""
        place = sink.place("service")
        assert isinstance(place, SearchPlace)
        try:
            await place.prepare(target)
            once = ("a", Increment(count=1))
            assert await place.write(target, changes(once, once, a=2), {"job-a": 0})
            for late in (changes(once, a=3), changes(("a", Remove()), a=4)):
                before = await place.versions(target, ["job-a"])
                with monkeypatch.context() as frozen:
                    frozen.setattr(by_stream, "_advance", unsettled)
                    assert not await place.write(target, late, before)
                assert await place.versions(target, ["job-a"]) == before
                seen = (await place.whole(target, ["a"]))["a"]
                wanted = {"_id": "a", "count": 2}
                assert not await place.replace(target, "a", seen, wanted)
                assert await place.write(target, late, before)
                assert not await place.replace(target, "a", seen, wanted), "it has gone on"
            assert await place.whole(target, ["a"]) == {}
            assert await place.replace(target, "a", None, {"_id": "a", "count": 7})
            assert await place.whole(target, ["a"]) == {"a": {"_id": "a", "count": 7}}
        finally:
            await place.close()


async def unsettled(*where: object) -> bool:
    return False


class TestVersionsInDocuments:
    """Where each document is fed by one stream, and holds its version."""

    @pytest.fixture
    def sink(self, search_url: str, unique: str) -> Sink:
        return SearchIndex(url=search_url, mappings=MAPPINGS, prefix=unique)

    @pytest.fixture
    def target(self, sink: Sink) -> Target:
        return Target("jobs", "jobs__v1", True, place=sink.kind)

    @pytest.fixture
    async def place(self, sink: Sink, target: Target) -> AsyncIterator[SearchPlace]:
        place = sink.place("service")
        assert isinstance(place, SearchPlace)
        try:
            assert list(await place.prepare(target)) == []
            yield place
        finally:
            await place.close()

    async def test_documents_change_with_their_versions(
        self, place: SearchPlace, target: Target
    ) -> None:
        made = changes(("a", Upsert(title="x")), ("b", Increment(count=5)), a=3, b=1, c=7)
        assert await place.write(target, made, {"job-a": 0, "job-b": 0, "job-c": 0})
        streams = ["job-a", "job-b", "job-c", "job-d"]
        reached = {"job-a": 3, "job-b": 1, "job-c": 7}
        assert await place.versions(target, streams) == reached
        assert await place.reached(target, "", 2) == {"a": 3, "b": 1}
        assert await place.reached(target, "b", 2) == {"c": 7}
        assert await found(place, place.index(target).alias) == {
            "a": {"title": "x"},
            "b": {"count": 5},
        }

    async def test_only_one_of_two_writers_of_a_version_is_first(
        self, place: SearchPlace, target: Target
    ) -> None:
        for version in range(1, 6):
            one = changes(
                ("a", Increment(count=1)), ("b", Increment(count=1)), a=version, b=version
            )
            before = {"job-a": version - 1, "job-b": version - 1}
            done = await asyncio.gather(*(place.write(target, one, before) for _ in range(4)))
            assert sum(done) <= 1
            assert await place.versions(target, list(before)) == one.versions
        assert await found(place, place.index(target).alias) == {
            "a": {"count": 5},
            "b": {"count": 5},
        }

    async def test_nested_values_times_and_lists_are_kept_as_json(
        self, place: SearchPlace, target: Target
    ) -> None:
        value = Upsert(tags=("x", "y"), place={"town": "Bern"}, title=date(2026, 11, 30))
        assert await place.write(target, changes(("a", value), a=1), {"job-a": 0})
        held = {"tags": ["x", "y"], "place": {"town": "Bern"}, "title": "2026-11-30"}
        assert await found(place, place.index(target).alias) == {"a": held}

    async def test_a_version_that_others_spoilt_is_told_as_unusable(
        self, place: SearchPlace, target: Target
    ) -> None:
        assert await place.write(target, changes(("a", Upsert(title="x")), a=1), {"job-a": 0})
        path = f"{place.index(target).path}/_doc/a"
        await place.engine.ask("PUT", path, {"title": "by hand"})
        assert await place.versions(target, ["job-a"]) == {"job-a": UNUSABLE}
        late = changes(("a", Upsert(title="y")), a=2)
        assert not await place.write(target, late, {"job-a": 1})

    async def test_an_audit_sees_versions_and_what_is_hidden(
        self, place: SearchPlace, target: Target
    ) -> None:
        some = changes(("a", Upsert(title="x")), ("b", Upsert()), a=1, b=1)
        assert await place.write(target, some, {"job-a": 0, "job-b": 0})
        assert await place.write(target, changes(("b", Remove()), b=2), {"job-b": 1})
        page = await place.page(target, "", 10)
        assert page == [
            {"_id": "a", "title": "x", "_version": 1},
            {"_id": "b", "_version": 2, "_hidden": True},
        ]
        wanted = {"_id": "a", "_version": 4, "_hidden": True}
        assert await place.replace(target, "a", page[0], wanted)
        assert await place.versions(target, ["job-a"]) == {"job-a": 4}
        assert await place.replace(target, "b", page[1], None)
        assert await place.versions(target, ["job-b"]) == {}
        assert await found(place, place.index(target).alias) == {}

    async def test_an_index_of_another_service_is_left_alone(
        self, place: SearchPlace, target: Target, sink: Sink
    ) -> None:
        other = sink.place("another")
        assert isinstance(other, SearchPlace)
        try:
            with pytest.raises(ConfigurationError, match="is of service 'service'"):
                await other.prepare(target)
            with pytest.raises(StoreUnavailable, match="is of service 'service'"):
                await other.write(target, changes(("a", Upsert(title="x")), a=1), {"job-a": 0})
            await other.drop(target)
            assert await place.identities() == {target.collection: ANY}
            assert await place.page(target, "", 9) == []
            assert await other.identities() == {}
        finally:
            await other.close()

    @pytest.mark.parametrize(
        ("name", "words"), [("Jobs__v1", "in lower case"), ("jobs__v1_shown", "is an alias of")]
    )
    async def test_a_name_that_no_index_can_have_is_told(
        self, place: SearchPlace, target: Target, name: str, words: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=words):
            await place.prepare(target._replace(collection=name))

    async def test_a_mapping_that_the_engine_does_not_take_is_told_in_its_words(
        self, search_url: str, unique: str, target: Target
    ) -> None:
        wrong = {"properties": {"title": {"type": "words"}}}
        place = SearchIndex(url=search_url, mappings=wrong, prefix=unique).place("service")
        try:
            with pytest.raises(ConfigurationError, match="No handler for type"):
                await place.prepare(target)
        finally:
            await place.close()
