"""Aggregates that are stored by their state: what is read, what is believed, and what is found."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    Event,
    Repository,
    Router,
    Settings,
)
from bus.codec import record
from bus.common import clock
from bus.stores.event_log import Commit, Snapshot


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


async def test_an_aggregate_is_loaded_by_one_read_of_its_state(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.execute(Post(job_id="a"))
    for number in range(2, 30):
        assert (await bus.execute(Close(job_id="a"))).result == number
    counted = Counted(bus.runtime.event_log, monkeypatch)
    job = await loaded(bus, "a")
    assert counted.asked == ["state"]
    folded = Job("a")
    from bus.write.repository import catch_up

    await catch_up(folded, bus.runtime.event_log)
    assert job is not None
    assert vars(job) == vars(folded)
    assert len(await bus.runtime.event_log.read("job-a")) == 29


async def test_found(bus: Bus) -> None:
    for n in range(5):
        await bus.execute(Post(job_id=f"j{n}", city="Ulm" if n % 2 else "Bonn"))
    assert (await bus.execute(CloseAll(city="Bonn"))).result == ["j0", "j2", "j4"]
    assert (await bus.execute(CloseAll(city="Bonn"))).result == []
    all = Repository(Job, bus.runtime.event_log)
    print(await all.find(owner=None))
    for wrong in ({"statu": 1}, {"count": 1}, {"status": 7}, {"city": None}):
        with pytest.raises(ConfigurationError) as e:
            await all.find(**wrong)
        print(e.value)
