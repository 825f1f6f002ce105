"""Aggregates that are stored by their state: what is read, what is believed, and what is found."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from bus import (
    Aggregate,
    Bus,
    Command,
    ConcurrencyError,
    ConfigurationError,
    Event,
    InvalidMessage,
    NotBuilt,
    Repository,
    Router,
    Settings,
)
from bus.codec import record
from bus.common import clock
from bus.stores.event_log import Commit, Snapshot
from bus.testing import given
from bus.write import snapshots
from bus.write.repository import after_conflict, catch_up


class Status(Enum):
    OPEN = "open"
    CLOSED = "closed"


class Address(BaseModel):
    city: str = ""
    lines: list[str] = []


@dataclass
class Pay:
    amount: Decimal
    since: datetime


class Post(Command):
    job_id: str
    city: str = "Ulm"
    owner: str | None = None


class Close(Command):
    job_id: str


class CloseAll(Command):
    city: str


class Posted(Event):
    city: str
    owner: str | None = None


class Closed(Event):
    pass


class Job(Aggregate, stored="state", indexes=["status", "city", "owner"]):
    status: Status = Status.OPEN
    city: str = ""
    owner: str | None = None
    count: int = 0
    address: Address = Address()
    pay: Pay | None = None
    tags: set[str] = set()  # noqa: RUF012

    def apply(self, event: Event) -> None:
        match event:
            case Posted():
                self.city, self.owner = event.city, event.owner
                self.address = Address(city=event.city, lines=["a", "b"])
                self.pay = Pay(Decimal("1.50"), datetime(2024, 1, 1, tzinfo=UTC))
                self.tags = {"a", "b", "c", event.city}
                self.count += 1
            case Closed():
                self.status = Status.CLOSED
                self.count += 1


jobs = Router("jobs")


@jobs.command
async def post(command: Post, all: Repository[Job]) -> None:
    job = await all.find(command.job_id)
    if job is None:
        job = Job(command.job_id)
        all.add(job)
    job.record(Posted(city=command.city, owner=command.owner))


@jobs.command
async def close(command: Close, all: Repository[Job]) -> int:
    job = await all.get(command.job_id)
    job.record(Closed())
    return job.count


@jobs.command
async def close_all(command: CloseAll, all: Repository[Job]) -> list[str]:
    found = await all.find(status=Status.OPEN, city=command.city)
    for job in found:
        job.record(Closed())
    return [job.id for job in found]


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with Bus("board", routers=[jobs], settings=Settings.in_memory()) as bus:
        yield bus


def commit(stream: str, first: int, *events: Event, state: Snapshot | None = None) -> Commit:
    """A commit, by default without a state, as of a release that stores none."""
    return Commit(
        id=clock.new_id(),
        stream=stream,
        category="job",
        first=first,
        events=tuple(map(record, events)),
        time=clock.now(),
        correlation_id="c",
        state=state,
    )


class Counted:
    """Counts what is asked of a log."""

    def __init__(self, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        for name in ("state", "states", "events"):
            monkeypatch.setattr(log, name, self._counting(name, getattr(log, name)))

    def _counting(self, name: str, call: Any) -> Any:
        def counting(*given: Any, **named: Any) -> Any:
            if not (name == "state" and given[0].startswith("=")):
                self.asked.append(name)
            return call(*given, **named)

        return counting


async def loaded(bus: Bus, id: str) -> Job | None:
    return await Repository(Job, bus.runtime.event_log).find(id)


async def folded(bus: Bus, id: str) -> Job:
    """The job as its events make it."""
    job = Job(id)
    await catch_up(job, bus.runtime.event_log)
    return job


async def test_an_aggregate_is_loaded_by_one_read_of_its_state(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.execute(Post(job_id="a"))
    for number in range(2, 30):
        assert (await bus.execute(Close(job_id="a"))).result == number
    counted = Counted(bus.runtime.event_log, monkeypatch)
    job = await loaded(bus, "a")
    assert counted.asked == ["state"]
    assert job is not None
    assert vars(job) == vars(await folded(bus, "a"))
    assert len(await bus.runtime.event_log.read("job-a")) == 29


async def test_what_is_not_there_is_looked_up_in_the_log(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(bus.runtime.event_log, monkeypatch)
    assert await loaded(bus, "a") is None
    assert counted.asked == ["state", "events"]


async def test_of_many_at_once_on_one_state_each_counts(bus: Bus) -> None:
    await bus.execute(Post(job_id="a"))
    calls = [bus.execute(Close(job_id="a")) for _ in range(9)]
    assert sorted([(await call).result for call in calls]) == list(range(2, 11))
    job = await loaded(bus, "a")
    assert job is not None
    assert (job.count, job.version) == (10, 10)


# --- what is believed ------------------------------------------------------------------------


async def without_state(bus: Bus, id: str, first: int, *events: Event) -> None:
    """Stores events as a release does that stores no states."""
    await bus.runtime.event_log.append([commit(f"job-{id}", first, *events)])


async def test_after_a_conflict_the_events_after_the_state_are_read(bus: Bus) -> None:
    await bus.execute(Post(job_id="a"))
    await without_state(bus, "a", 2, Closed(), Closed())
    with capture_logs() as lines:
        assert (await bus.execute(Close(job_id="a"))).result == 4
    (told,) = [line for line in lines if line["event"] == "states_incomplete"]
    assert told["reason"] == "job-a has events that were stored without its state"
    state = await bus.runtime.event_log.state("job-a")
    assert state is not None
    assert (state.version, state.state["count"]) == (4, 4)


async def test_once_a_state_was_behind_none_is_believed_and_none_is_searched(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in ("a", "b"):
        await bus.execute(Post(job_id=id))
    await without_state(bus, "a", 2, Closed())
    await without_state(bus, "b", 2, Closed())
    await bus.execute(Close(job_id="a"))
    job = await loaded(bus, "b")
    assert job is not None
    assert job.status is Status.CLOSED
    with pytest.raises(NotBuilt, match="bus aggregates store APP Job"):
        await bus.execute(CloseAll(city="Ulm"))


async def test_a_state_that_is_missing_is_folded_from_the_log(bus: Bus) -> None:
    await without_state(bus, "a", 1, Posted(city="Ulm"), Closed())
    with capture_logs() as lines:
        job = await loaded(bus, "a")
    assert job is not None
    assert (job.version, job.status) == (2, Status.CLOSED)
    assert [line["event"] for line in lines] == ["states_incomplete"]


async def test_another_process_that_is_quick_is_no_older_release(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit comes between the read of the state and that of the events."""
    log = bus.runtime.event_log
    await bus.execute(Post(job_id="a"))
    original, between = log.events, iter([None])

    async def events(stream: str, after: int = 0) -> Any:
        for _ in between:
            await bus.execute(Close(job_id="a"))
        async for page in original(stream, after):
            yield page

    token = after_conflict.set(True)
    monkeypatch.setattr(log, "events", events)
    with capture_logs() as lines:
        job = await loaded(bus, "a")
    after_conflict.reset(token)
    assert job is not None
    assert job.version == 2
    assert not lines
    assert await snapshots.is_complete(log, Job)


async def test_a_state_of_which_the_log_knows_nothing_is_not_believed_after_a_conflict(
    bus: Bus,
) -> None:
    log = bus.runtime.event_log
    await bus.execute(Post(job_id="a"))
    state = await log.state("job-a")
    assert state is not None
    await log.save_state(state._replace(version=9, state={**state.state, "count": 9}))
    token = after_conflict.set(True)
    job = await loaded(bus, "a")
    after_conflict.reset(token)
    assert job is not None
    assert (job.version, job.count) == (1, 1)


async def test_an_aggregate_stays_as_it_is_between_two_conflicting_writers(bus: Bus) -> None:
    log = bus.runtime.event_log
    await bus.execute(Post(job_id="a"))
    state = await log.state("job-a")
    assert state is not None
    await log.append([commit("job-a", 2, Closed(), state=state._replace(version=2))])
    with pytest.raises(ConcurrencyError):
        await log.append([commit("job-a", 2, Closed(), state=state._replace(version=2))])
    assert await log.state("job-a") == state._replace(version=2)


# --- what does not fit -----------------------------------------------------------------------


def changed(schema: int = 1, upcast: Any = None, **fields: Any) -> type[Aggregate]:
    """The job of another release, with other fields."""

    class Other(Aggregate, category="job", stored="state", schema=schema):
        __annotations__ = {name: kind for name, (kind, _) in fields.items()}
        locals().update({name: default for name, (_, default) in fields.items()})

        def apply(self, event: Event) -> None:
            match event:
                case Posted() | Closed():
                    for name in fields:
                        setattr(self, name, f"folded at {self.version + 1}")

    if upcast:
        Other.upcast = classmethod(upcast)  # type: ignore[method-assign, assignment]
    return Other


async def read_as(bus: Bus, kind: type[Aggregate]) -> tuple[Any, list[str]]:
    """The job as another release reads it twice, and what is logged meanwhile."""
    with capture_logs() as lines:
        for _ in range(2):
            job = await Repository(kind, bus.runtime.event_log).get("a")
    return job, [line["reason"] for line in lines if line["event"] == "no_state"]


async def stored(bus: Bus, schema: int = 1, **state: Any) -> None:
    await without_state(bus, "a", 1, Posted(city="Ulm"))
    await bus.runtime.event_log.save_state(Snapshot("job-a", 1, str(schema), state))


async def test_a_state_whose_fields_fit_is_read_whatever_the_code_of_apply(bus: Bus) -> None:
    await stored(bus, city="Ulm")
    job, told = await read_as(bus, changed(city=(str, "")))
    assert (job.city, told) == ("Ulm", [])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"town": (str, "")}, "it has no town"),
        ({"city": (str, ""), "town": (str, "")}, "it has no town"),
        ({}, "city would be written otherwise"),
        ({"city": (int, 0)}, "city"),
    ],
    ids=["renamed", "added", "removed", "another type"],
)
async def test_a_state_that_does_not_fit_is_folded_anew_and_told_once(
    bus: Bus, fields: Any, reason: str
) -> None:
    await stored(bus, city="Ulm")
    kind = changed(**fields)
    job, told = await read_as(bus, kind)
    assert len(told) == 1
    assert reason in told[0]
    assert {name: getattr(job, name) for name in fields} == dict.fromkeys(fields, "folded at 1")


async def test_a_field_of_a_nested_model_that_was_renamed_does_not_fit(bus: Bus) -> None:
    class Place(BaseModel):
        town: str = ""

    await stored(bus, place={"city": "Ulm"})
    _, told = await read_as(bus, changed(place=(Place, Place())))
    assert "place would be written otherwise now" in told[0]


async def test_an_older_schema_is_brought_to_the_current_one_by_upcast(bus: Bus) -> None:
    def upcast(cls: Any, state: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"town": state.pop("city"), "was": schema}

    await stored(bus, city="Ulm")
    job, told = await read_as(bus, changed(2, upcast, town=(str, ""), was=(int, 0)))
    assert (job.town, job.was, told) == ("Ulm", 1, [])


@pytest.mark.parametrize(
    ("schema", "upcast", "reason"),
    [
        (1, None, "it is of schema 1, the class here is of schema 2, and has no upcast()"),
        (3, None, "it is of schema 3, and the class here is of schema 2; deploy"),
        (1, lambda cls, state, schema: None, "schema 1: upcast() returned NoneType"),
        (1, lambda cls, state, schema: {}, "it has no town"),
        (1, lambda cls, state, schema: 1 / 0, "division by zero"),
        (1, lambda cls, state, schema: {"town": 7}, "town"),
    ],
)
async def test_another_schema_that_nothing_reads_is_folded_anew(
    bus: Bus, schema: int, upcast: Any, reason: str
) -> None:
    await stored(bus, schema, city="Ulm")
    job, told = await read_as(bus, changed(2, upcast, town=(str, "")))
    assert job.town == "folded at 1"
    assert len(told) == 1
    assert reason in told[0]


async def test_a_state_that_is_no_object_is_folded_anew(bus: Bus) -> None:
    await without_state(bus, "a", 1, Posted(city="Ulm"))
    torn: Any = "torn"
    await bus.runtime.event_log.save_state(Snapshot("job-a", 1, "1", torn))
    job, told = await read_as(bus, changed(city=(str, "")))
    assert (job.city, len(told)) == ("folded at 1", 1)


# --- what cannot be stored -------------------------------------------------------------------


async def refused(value: Any, kind: Any = None, default: Any = None) -> str:
    """What is said of a command that gives a state this value, or leaves it as it is (None)."""

    class Odd(Aggregate, stored="state", events=[Posted]):
        if kind is not None:
            __annotations__ = {"value": kind}
        if default is not None:
            value = default

        def apply(self, event: Event) -> None:
            if value is not None:
                self.value = value

    odd = Router("odd")

    @odd.command
    async def post(command: Post, all: Repository[Odd]) -> None:
        one = Odd(command.job_id)
        all.add(one)
        one.record(Posted(city="Ulm"))

    async with Bus("board", routers=[odd], settings=Settings.in_memory()) as bus:
        try:
            await bus.execute(Post(job_id="a"))
        except (ConfigurationError, InvalidMessage) as error:
            assert await bus.runtime.event_log.read("odd-a") == []
            return str(error)
        return "stored"


async def test_a_state_that_could_not_be_read_back_ends_the_command() -> None:
    assert "annotate it in the class" in await refused(1)
    assert "value has no value, and a state" in await refused(None, int)
    assert await refused(None, int, 1) == "stored"
    assert "would be read" in await refused({1: "a"}, Any)
    assert "begins with $" in await refused({"$a": 1}, dict[str, int])
    assert "64 bits" in await refused(2**64, int)
    assert "value cannot be written as JSON" in await refused(object(), Any)
    assert "bytes, more than" in await refused("x" * 16_000_000, str)
    assert "nested more than 50" in await refused(_deep(60), Any)
    assert await refused(_deep(30), Any) == "stored"


def _deep(levels: int) -> Any:
    return [_deep(levels - 1)] if levels else []


def test_options_that_do_not_fit_are_refused() -> None:
    def says(**options: Any) -> str:
        with pytest.raises(ConfigurationError) as refusal:
            type("Job", (Aggregate,), {"__annotations__": {"a": int}}, **options)
        return str(refusal.value)

    assert 'write stored="state", or leave it out' in says(stored="States")
    assert "schema=0: give a whole number, 1 or more" in says(stored="state", schema=0)
    assert "write a list of names of its state" in says(stored="state", indexes="status")
    assert "write a list of names of its state" in says(stored="state", indexes=[1])
    assert "indexes= is about a stored state" in says(indexes=["a"])
    assert "schema= is about a stored state" in says(schema=2)
    assert "nothing for snapshot_every= to do" in says(stored="state", snapshot_every=10)
    with pytest.raises(ConfigurationError, match="'stored' is a name of the aggregate's own"):
        type("Job", (Aggregate,), {"stored": "state"})


def test_a_subclass_says_anew_how_it_is_stored() -> None:
    class Kept(Job, category="kept", stored="state", schema=3):
        more: int = 0

    class Plain(Job):
        pass

    assert (Kept.storing.by_state, Kept.storing.indexes, Kept.storing.schema) == (True, (), 3)
    assert not Plain.storing.by_state


def refused_by_the_bus(**body: Any) -> str:
    options = {"indexes": body.pop("indexes", [])}
    kind = type("Odd", (Aggregate,), body, stored="state", **options)
    odd = Router("odd")

    async def post(command: Post, all: Repository[Any]) -> None: ...

    post.__annotations__["all"] = Repository[kind]  # type: ignore[valid-type]
    odd.command(post)
    with pytest.raises(ConfigurationError) as refusal:
        Bus("odd", routers=[odd], settings=Settings.in_memory())
    return str(refusal.value)


def test_what_could_not_be_stored_by_its_state_is_refused_when_the_bus_is_built() -> None:
    known = {"__annotations__": {"status": str}}
    assert "its state has no such field; it has status" in refused_by_the_bus(
        indexes=["statu"], **known
    )
    assert "names a field twice" in refused_by_the_bus(indexes=["status", "status"], **known)
    assert "put @classmethod above it" in refused_by_the_bus(upcast=lambda self: None)
    assert "need the types of its state" in refused_by_the_bus(__annotations__={"a": "Unknown"})


# --- what is found ---------------------------------------------------------------------------


async def posted(bus: Bus, *cities: str) -> None:
    for number, city in enumerate(cities):
        owner = None if number % 2 else "Ada"
        await bus.execute(Post(job_id=f"j{number}", city=city, owner=owner))


async def test_aggregates_are_found_by_their_fields_sorted_by_id(bus: Bus) -> None:
    await posted(bus, "Bonn", "Ulm", "Bonn", "Ulm", "Bonn")
    all = Repository(Job, bus.runtime.event_log)
    assert [job.id for job in await all.find(city="Bonn")] == ["j0", "j2", "j4"]
    assert [job.id for job in await all.find(city="Bonn", status="open")] == ["j0", "j2", "j4"]
    assert [job.id for job in await all.find(owner=None)] == ["j1", "j3"]
    assert [job.id for job in await all.find(owner="Ada", count=1)] == ["j0", "j2", "j4"]
    assert await all.find(city="bonn") == []
    assert (await bus.execute(CloseAll(city="Bonn"))).result == ["j0", "j2", "j4"]
    assert (await bus.execute(CloseAll(city="Bonn"))).result == []


async def test_what_is_in_hand_is_the_same_object_and_is_judged_as_it_is_now(bus: Bus) -> None:
    await posted(bus, "Ulm", "Ulm", "Bonn")
    all = Repository(Job, bus.runtime.event_log)
    closed, moved, new = await all.get("j0"), await all.get("j2"), Job("j9")
    closed.record(Closed())
    moved.record(Posted(city="Ulm"))
    new.record(Posted(city="Ulm"))
    all.add(new)
    found = await all.find(status=Status.OPEN, city="Ulm")
    assert [job.id for job in found] == ["j1", "j2", "j9"]
    assert found[1:] == [moved, new]
    assert await all.get("j1") is found[0]
    assert await all.find(status=Status.CLOSED) == [closed]


async def test_what_was_found_and_changed_is_locked_by_its_version(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = bus.runtime.event_log
    await posted(bus, "Ulm", "Ulm")
    original, between = log.states, iter([None])

    async def states(*given: Any, **named: Any) -> Any:
        found = await original(*given, **named)
        for _ in between:
            await bus.execute(Close(job_id="j0"))
        return found

    monkeypatch.setattr(log, "states", states)
    assert (await bus.execute(CloseAll(city="Ulm"))).result == ["j1"]
    assert (await folded(bus, "j0")).count == 2


async def test_a_state_that_was_found_behind_its_stream_is_judged_by_its_events(bus: Bus) -> None:
    await posted(bus, "Ulm", "Ulm")
    await without_state(bus, "j0", 2, Closed())
    assert (await bus.execute(CloseAll(city="Ulm"))).result == ["j1"]
    assert (await folded(bus, "j0")).count == 2


async def test_states_of_another_schema_are_read_before_they_are_judged(bus: Bus) -> None:
    def upcast(cls: Any, state: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"town": state["city"], "status": state["status"]}

    await posted(bus, "Ulm", "Bonn")
    kind = changed(2, upcast, town=(str, ""), status=(str, "new"))
    kind.storing = kind.storing._replace(indexes=("town",))
    found: Any = await Repository(kind, bus.runtime.event_log).find(town="Ulm")
    assert [(job.id, job.status) for job in found] == [("j0", "open")]
    await bus.runtime.event_log.save_state(
        Snapshot("job-j7", 1, "2", {"town": "Ulm", "status": "open"})
    )
    old = await Repository(Job, bus.runtime.event_log).find(city="Ulm")
    assert [job.id for job in old] == ["j0"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"statu": "open"}, "the state of Job has no 'statu'; it has address, city"),
        ({"count": 1}, "none of these has an index"),
        ({"status": "gone"}, "the state never holds such a value: status"),
        ({"city": None}, "the state never holds such a value: city"),
        ({"city": "Ulm", "address": Address()}, "address holds dicts, and only texts"),
        ({"city": {"$ne": "Ulm"}}, "the state never holds such a value: city"),
        ({"city": "Ulm", "id": "a"}, "takes an id, or fields, and not both"),
    ],
)
async def test_fields_that_cannot_be_found_are_refused(bus: Bus, fields: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says.replace("(", r"\(")):
        await Repository(Job, bus.runtime.event_log).find(**fields)


async def test_aggregates_by_events_are_found_by_id_alone(bus: Bus) -> None:
    class Plain(Aggregate, events=[Posted]):
        city: str = ""

    with pytest.raises(ConfigurationError, match="is stored by its events, and found by its id"):
        await Repository(Plain, bus.runtime.event_log).find(city="Ulm")


async def test_more_than_can_be_found_at_once_is_refused(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MOST_FOUND", 3)
    await posted(bus, "Ulm", "Ulm", "Ulm")
    assert len(await Repository(Job, bus.runtime.event_log).find(city="Ulm")) == 3
    await bus.execute(Post(job_id="j9"))
    with pytest.raises(ConfigurationError, match="finds more than 3: narrow it"):
        await Repository(Job, bus.runtime.event_log).find(city="Ulm")
    other = changed(2, city=(str, ""))
    other.storing = other.storing._replace(indexes=("city",))
    with pytest.raises(ConfigurationError, match="of another schema; run `bus aggregates store"):
        await Repository(other, bus.runtime.event_log).find(city="Ulm")


# --- given, when, then -----------------------------------------------------------------------


def test_given_when_then_works_with_states() -> None:
    given(Job, "a", Posted(city="Ulm")).given(Job, "b", Posted(city="Ulm")).when_handled(
        CloseAll(city="Ulm"), by=close_all
    ).then(Closed(), Closed()).returns(["a", "b"])
    given(Job, "a", Posted(city="Ulm"), Closed()).when_handled(
        CloseAll(city="Ulm"), by=close_all
    ).returns([])
    given(Job, "a").when_handled(CloseAll(city="Ulm"), by=close_all).returns([])


async def test_given_when_then_works_with_states_in_an_async_test() -> None:
    given(Job, "a", Posted(city="Ulm")).when_handled(CloseAll(city="Ulm"), by=close_all).then(
        Closed()
    )
