"""Batches written into an index without transactions: each event exactly once, whoever dies."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.errors import OutcomeUnknown, ProjectionError
from bus.stores.collections import Changes, Write
from bus.stores.search.memory import Memory
from bus.stores.search.writing import by_document, by_stream
from bus.stores.search.writing.records import (
    Fields,
    Held,
    Put,
    Records,
    applied,
    checkpoint,
    fields_of,
    id_of,
    marks_of,
    version_of,
)
from bus.stores.search.writing.values import OWN
from bus.stores.sink import Increment, Remove, Upsert
from tests.examples import hundreds
from tests.unit.virtual_time import run, virtual_time

KEYS = ["x", "y", "z"]


class Engine(Records):
    """An index in memory, and the process of one worker, or of several that share what they recall.
    With a source of chance every request takes some time, a request for several documents some time
    for each, and it may be cut off between any two of them."""

    def __init__(self, chance: Random | None = None, cuts: float = 0.0) -> None:
        self.held: dict[str, Held] = {}
        self._chance = chance
        self._cuts = cuts
        self._memory = Memory()
        self.reads = 0

    def beside(self) -> "Engine":
        """Another process."""
        engine = Engine(self._chance, self._cuts)
        engine.held = self.held
        return engine

    async def read(self, ids: Iterable[str]) -> dict[str, Held]:
        found: dict[str, Held] = {}
        asked = self._memory.moment()
        for id in ids:
            self.reads += 1
            await self._step()
            if id in self.held:
                found[id] = self.held[id]._replace(asked=asked)
        await self._step()
        answered = self._memory.moment()
        return {id: held._replace(answered=answered) for id, held in found.items()}

    async def recall(self, ids: Iterable[str]) -> dict[str, Held]:
        known = self.known(ids)
        return known | await self.read([id for id in ids if id not in known])

    def known(self, ids: Iterable[str]) -> dict[str, Held]:
        return self._memory.recall(ids)

    async def put(self, puts: Iterable[Put]) -> set[str]:
        conflicts, stored, asked = set[str](), dict[str, Held](), self._memory.moment()
        for put in puts:
            await self._step()
            held = self.held.get(put.id)
            if (held and held.number) != (put.known and put.known.number):
                conflicts.add(put.id)
                continue
            assert put.source is not None
            answered = put.known.answered if put.known else 0
            number = (held.number if held else 0) + 1
            self.held[put.id] = stored[put.id] = Held(put.source, number, 1, asked, answered)
        await self._step()
        for id in conflicts:
            self._memory.forget(id)
        for id, held in stored.items():
            self._memory.keep(id, held, 1)
        return conflicts

    async def _step(self) -> None:
        if self._chance is None:
            return
        await asyncio.sleep(self._chance.random())
        if self._chance.random() < self._cuts:
            raise OutcomeUnknown("cut off")

    def fields(self, key: str) -> Fields | None:
        return fields_of(self.held.get(key))

    def marks(self, key: str) -> dict[str, int]:
        return marks_of(self.held.get(key))


def batch(*writes: Write, **versions: int) -> Changes:
    return Changes(writes, {f"job-{name}": version for name, version in versions.items()})


def write(key: str, change: Any, stream: str, version: int) -> Write:
    return Write(key, change, "test", f"job-{stream}", version)


# --- a property: interleaved writers, cut off anywhere -------------------------------------------

some_change = st.sampled_from(["count", "set", "remove"])
some_event = st.lists(st.tuples(st.sampled_from(KEYS), some_change), max_size=3)
some_streams = st.lists(st.lists(some_event, min_size=1, max_size=3), min_size=1, max_size=3)


def change_of(kind: str, stream: str, version: int) -> Any:
    match kind:
        case "count":
            return Increment({"count": 1})
        case "set":
            return Upsert({stream: version})
    return Remove()


def log_of(drawn: Sequence[Sequence[Sequence[tuple[str, str]]]]) -> dict[str, list[list[Write]]]:
    """The writes of each event, by stream."""
    return {
        f"job-{number}": [
            [
                Write(key, change_of(kind, f"s{number}", version), "test", f"job-{number}", version)
                for key, kind in event
            ]
            for version, event in enumerate(events, 1)
        ]
        for number, events in enumerate(drawn)
    }


def possible(log: Mapping[str, list[list[Write]]], key: str) -> list[Fields | None]:
    """What a document may be: events of each stream in order, those of several in any."""
    streams = [[[w for w in e if w.key == key] for e in events] for events in log.values()]
    states: dict[tuple[int, ...], list[Fields | None]] = {(0,) * len(streams): [None]}
    ends = tuple(map(len, streams))
    todo = list(states)
    while todo:
        at = todo.pop(0)
        for number, events in enumerate(streams):
            if at[number] == len(events):
                continue
            following = (*at[:number], at[number] + 1, *at[number + 1 :])
            if following not in states:
                states[following] = []
                todo.append(following)
            for fields in states[at]:
                for change in events[at[number]]:
                    fields = applied(fields, change)
                if fields not in states[following]:
                    states[following].append(fields)
    return states[ends]


def versions_in(engine: Engine, streams: Iterable[str]) -> dict[str, int]:
    return {stream: version_of(engine.held.get(id_of(stream))) for stream in streams}


def versions_known(engine: Engine, streams: Iterable[str], chance: Random) -> dict[str, int]:
    """What a worker takes for the versions: those that there are, or that it stored itself."""
    known = engine.known(map(id_of, streams)) if chance.random() < 0.5 else {}
    return versions_in(engine, streams) | {
        stream: version_of(known[id_of(stream)]) for stream in streams if id_of(stream) in known
    }


async def work(engine: Engine, log: Mapping[str, list[list[Write]]], chance: Random) -> None:
    """Applies everything, as a worker does: batches of some streams, cut anywhere, that begin at
    versions which may have moved since they were read; until nothing is left."""
    known = versions_in(engine, log)
    while behind := [s for s, version in known.items() if version < len(log[s])]:
        streams = chance.sample(behind, chance.randint(1, len(behind)))
        until = {s: chance.randint(known[s] + 1, len(log[s])) for s in streams}
        writes = [w for s in streams for event in log[s][known[s] : until[s]] for w in event]
        with suppress(OutcomeUnknown):
            if await by_stream.write(engine, Changes(writes, until), known):
                known |= until
                continue
        await asyncio.sleep(chance.random())
        known = versions_known(engine, log, chance)


@settings(max_examples=hundreds(3), deadline=None)
@given(some_streams, st.integers(0, 10**9), st.integers(0, 2))
def test_writers_that_are_cut_off_anywhere_apply_each_event_once(
    drawn: Sequence[Sequence[Sequence[tuple[str, str]]]], seed: int, most_marks: int
) -> None:
    chance = Random(seed)
    log = log_of(drawn)
    engine = Engine(chance, cuts=0.03)

    async def all_work() -> None:
        processes = [engine, engine, engine.beside(), engine.beside()]
        await asyncio.gather(*(work(process, log, chance) for process in processes))

    with virtual_time(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_stream, "MOST_MARKS", most_marks)
        run(all_work())
    assert versions_in(engine, log) == {stream: len(events) for stream, events in log.items()}
    for key in KEYS:
        assert engine.fields(key) in possible(log, key)


@settings(max_examples=hundreds(1), deadline=None)
@given(
    st.lists(st.lists(st.lists(some_change, max_size=2), max_size=4), min_size=1, max_size=3),
    st.integers(0, 10**9),
)
def test_documents_with_versions_have_each_event_once_whoever_is_cut_off(
    drawn: Sequence[Sequence[Sequence[str]]], seed: int
) -> None:
    chance = Random(seed)
    log = log_of([[[(str(n), kind) for kind in event] for event in s] for n, s in enumerate(drawn)])
    engine = Engine(chance, cuts=0.03)

    def versions() -> dict[str, int]:
        return {stream: version_of(engine.held.get(stream[4:])) for stream in log}

    async def one_worker(process: Engine) -> None:
        known = versions()
        while behind := [s for s, version in known.items() if version < len(log[s])]:
            until = {s: chance.randint(known[s] + 1, len(log[s])) for s in behind}
            writes = [w for s in behind for event in log[s][known[s] : until[s]] for w in event]
            with suppress(OutcomeUnknown):
                await by_document.write(process, Changes(writes, until), known)
            known = versions()

    async def all_work() -> None:
        processes = [engine, engine, engine.beside()]
        await asyncio.gather(*map(one_worker, processes))

    with virtual_time():
        run(all_work())
    assert versions() == {stream: len(events) for stream, events in log.items()}
    for stream in log:
        assert [engine.fields(stream[4:])] == possible(log, stream[4:])


# --- documents that several streams feed ---------------------------------------------------------


async def test_a_batch_cut_off_before_its_checkpoints_is_not_applied_twice() -> None:
    engine = Engine()
    one = batch(write("x", Increment(count=1), "a", 1), a=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_stream, "_advance", _cut_off)
        with pytest.raises(OutcomeUnknown):
            await by_stream.write(engine, one, {"job-a": 0})
    assert engine.fields("x") == {"count": 1}
    more = batch(
        write("x", Increment(count=1), "a", 1), write("x", Increment(count=1), "a", 2), a=2
    )
    assert await by_stream.write(engine, more, {"job-a": 0})
    assert engine.fields("x") == {"count": 2}


async def _cut_off(*_: object) -> bool:
    raise OutcomeUnknown("cut off")


async def test_a_document_removed_by_another_stream_keeps_what_was_applied_to_it() -> None:
    engine = Engine()
    added = batch(write("x", Increment(count=1), "a", 1), a=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_stream, "_advance", _cut_off)
        with pytest.raises(OutcomeUnknown):
            await by_stream.write(engine, added, {"job-a": 0})
    removed = batch(write("x", Remove(), "b", 1), b=1)
    assert await by_stream.write(engine, removed, {"job-b": 0})
    assert await by_stream.write(engine, added, {"job-a": 0})
    assert engine.fields("x") is None
    assert engine.marks("x") == {"job-b": 1, "job-a": 1}


async def test_marks_go_once_checkpoints_cover_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_stream, "MOST_MARKS", 0)
    engine = Engine()
    for version in range(1, 4):
        one = batch(write("x", Increment(count=1), "a", version), a=version)
        assert await by_stream.write(engine, one, {"job-a": version - 1})
        assert engine.marks("x") == {"job-a": version}
    other = batch(write("x", Increment(count=1), "b", 1), b=1)
    assert await by_stream.write(engine, other, {"job-b": 0})
    assert engine.marks("x") == {"job-b": 1}
    assert engine.fields("x") == {"count": 4}


async def test_what_this_process_stored_itself_is_not_read_again() -> None:
    engine = Engine()
    for version in range(1, 4):
        engine.reads = 0
        one = batch(write("x", Increment(count=1), "a", version), a=version)
        assert await by_stream.write(engine, one, {"job-a": version - 1})
        assert engine.reads == (1 if version == 1 else 0), "the document, once"
    assert engine.fields("x") == {"count": 3}


async def test_a_checkpoint_that_is_older_than_what_was_read_of_a_document_is_read_again() -> None:
    """Another process has applied the event, advanced the checkpoint and dropped its mark; this one
    recalls the checkpoint as it was before, and reads the document as it is now."""
    engine = Engine()
    other = engine.beside()
    assert await by_stream.write(engine, batch(write("y", Upsert(a=1), "a", 1), a=1), {"job-a": 0})
    second = batch(write("x", Increment(count=1), "a", 2), a=2)
    assert await by_stream.write(other, second, {"job-a": 1})
    third = batch(write("y", Upsert(a=3), "a", 3), a=3)
    assert await by_stream.write(other, third, {"job-a": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_stream, "MOST_MARKS", 0)
        assert await by_stream.write(
            other, batch(write("x", Increment(count=1), "b", 1), b=1), {"job-b": 0}
        )
    assert engine.marks("x") == {"job-b": 1}
    assert not await by_stream.write(engine, second, {"job-a": 1})
    assert engine.fields("x") == {"count": 2}


async def test_a_checkpoint_of_an_index_that_was_made_anew_drops_no_marks() -> None:
    engine = Engine()
    other = engine.beside()
    assert await by_stream.write(engine, batch(write("y", Upsert(a=1), "a", 1), a=1), {"job-a": 0})
    engine.held.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_stream, "_advance", _cut_off)
        with pytest.raises(OutcomeUnknown):
            await by_stream.write(
                other, batch(write("x", Increment(count=1), "a", 1), a=1), {"job-a": 0}
            )
    later = batch(write("y", Upsert(a=2), "a", 2), write("x", Upsert(b=1), "b", 1), a=2, b=1)
    assert not await by_stream.write(engine, later, {"job-a": 1, "job-b": 0})
    assert engine.marks("x")["job-a"] == 1


async def test_a_checkpoint_that_others_have_advanced_is_learned() -> None:
    engine = Engine()
    other = engine.beside()
    for process, version in ((engine, 1), (other, 2), (engine, 3)):
        one = batch(write("x", Increment(count=1), "a", version), a=version)
        assert await by_stream.write(process, one, {"job-a": version - 1})
    assert engine.fields("x") == {"count": 3}


async def test_a_writer_that_read_a_document_before_its_marks_went_is_refused() -> None:
    """It has read the document, and only then are the checkpoints advanced, and the marks dropped
    by a third; it may not take the event for new."""
    engine = Engine()
    late = batch(write("x", Increment(count=1), "a", 1), a=1)

    class Overtaken(Engine):
        async def read(self, ids: Iterable[str]) -> dict[str, Held]:
            found = await super().read(ids)
            if "x" not in engine.held:
                assert await by_stream.write(engine, late, {"job-a": 0})
                other = batch(write("x", Increment(count=1), "b", 1), b=1)
                assert await by_stream.write(engine, other, {"job-b": 0})
            return found

    overtaken = Overtaken()
    overtaken.held = engine.held
    assert not await by_stream.write(overtaken, late, {"job-a": 0})
    assert engine.fields("x") == {"count": 2}


async def test_two_writers_of_one_document_go_on_until_both_are_through() -> None:
    engine = Engine(Random(1))
    some = {name: batch(write("x", Increment(count=1), name, 1), **{name: 1}) for name in "abcd"}
    done = [by_stream.write(engine, one, {f"job-{name}": 0}) for name, one in some.items()]
    assert await asyncio.gather(*done) == [True] * 4
    assert engine.fields("x") == {"count": 4}


async def test_what_is_removed_before_it_was_there_keeps_a_slower_writer_out() -> None:
    """It has read that there is no document, and would make one of a part of the events."""
    engine = Engine()
    made = write("x", Increment(count=1), "a", 1)
    gone = batch(made, write("x", Remove(), "a", 2), a=2)

    class Slower(Engine):
        async def put(self, puts: Iterable[Put]) -> set[str]:
            if "x" not in engine.held:
                assert await by_stream.write(engine, gone, {"job-a": 0})
            return await super().put(puts)

    slower = Slower()
    slower.held = engine.held
    assert not await by_stream.write(slower, batch(made, a=1), {"job-a": 0})
    assert engine.fields("x") is None
    assert engine.held[id_of("job-a")].source == checkpoint("job-a", 2)


# --- documents with their streams' versions ------------------------------------------------------


async def test_an_old_event_does_not_raise_a_removed_document() -> None:
    engine = Engine()
    made = batch(write("a", Upsert(title="x"), "a", 1), a=1)
    assert await by_document.write(engine, made, {"job-a": 0})
    gone = batch(write("a", Remove(), "a", 2), a=2)
    assert await by_document.write(engine, gone, {"job-a": 1})
    assert engine.fields("a") is None
    for before in (0, 1):
        assert not await by_document.write(engine, made, {"job-a": before})
    assert engine.fields("a") is None
    assert version_of(engine.held["a"]) == 2


async def test_what_whole_streams_make_is_loaded_once_and_without_reading() -> None:
    engine = Engine()
    made = batch(
        write("a", Upsert(title="x"), "a", 1),
        write("a", Increment(count=2), "a", 2),
        write("b", Remove(), "b", 1),
        a=2,
        b=1,
    )
    assert await by_document.load(engine, made) == set()
    more = batch(write("a", Upsert(title="y"), "a", 3), write("c", Upsert(title="z"), "c", 1), a=3)
    assert await by_document.load(engine, more._replace(versions={"job-a": 3, "job-c": 1})) == {
        "job-a"
    }
    assert engine.reads == 0
    assert engine.fields("a") == {"title": "x", "count": 2}
    assert engine.fields("b") is None
    assert engine.fields("c") == {"title": "z"}
    assert [version_of(engine.held[key]) for key in "abc"] == [2, 1, 1]


async def test_a_version_without_a_document_is_hidden() -> None:
    engine = Engine()
    assert await by_document.write(engine, batch(a=3), {"job-a": 0})
    assert engine.held["a"].source == {OWN: {"key": "a", "hidden": True, "version": 3}}
    made = batch(write("a", Increment(count=2), "a", 4), a=4)
    assert await by_document.write(engine, made, {"job-a": 3})
    assert engine.fields("a") == {"count": 2}


async def test_a_key_that_an_index_does_not_take_is_refused() -> None:
    long = f"job-{'x' * 513}"
    with pytest.raises(ProjectionError, match="513 bytes"):
        await by_document.write(Engine(), Changes([], {long: 1}), {long: 0})
