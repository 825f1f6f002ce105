"""Snapshots that would give another state than the events: passed over, and told once."""

from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from bus import Aggregate, Bus, Command, ConfigurationError, Event, Repository, Router, Settings
from bus.stores.event_log import Snapshot


class Add(Command):
    list_id: str
    number: int


class Added(Event):
    number: int


def listing(**annotations: Any) -> tuple[type[Aggregate], Router]:
    """An aggregate that keeps the last two numbers as a pair, of the types that are given."""

    class Listing(Aggregate, snapshot_every=1):
        pair = (0, 0)
        __annotations__ = annotations

        def apply(self, event: Event) -> None:
            match event:
                case Added():
                    self.pair = (self.pair[1], event.number)

    router = Router("lists")

    @router.command
    async def add(command: Add, lists: Repository[Listing]) -> tuple[int, int]:
        found = await lists.find(command.list_id)
        if found is None:
            found = Listing(command.list_id)
            lists.add(found)
        found.record(Added(number=command.number))
        return found.pair

    return Listing, router


@pytest.mark.parametrize("annotations", [{"pair": Any}, {}, {"pair": list[int]}])
async def test_state_that_no_snapshot_can_give_is_told_once_and_read_from_events(
    annotations: dict[str, Any],
) -> None:
    _, router = listing(**annotations)
    async with Bus("lists", routers=[router], settings=Settings.in_memory()) as bus:
        with capture_logs() as lines:
            for number in range(1, 5):
                for list_id in ("a", "b"):
                    receipt = await bus.execute(Add(list_id=list_id, number=number))
                    assert receipt.result == (number - 1, number)
    (told,) = [line for line in lines if line["event"] == "no_snapshot"]
    assert (told["log_level"], told["stream"]) == ("warning", "listing-a")
    assert "pair" in told["reason"]


async def test_a_snapshot_that_cannot_be_read_is_told_once_and_passed_over() -> None:
    kind, router = listing(pair=tuple[int, int])
    async with Bus("lists", routers=[router], settings=Settings.in_memory()) as bus:
        await bus.execute(Add(list_id="a", number=1))
        good = await bus.runtime.event_log.snapshot("listing-a")
        assert good is not None
        assert good.state == {"pair": [0, 1]}
        broken = Snapshot("listing-a", 9, good.shape, {"pair": "torn"})
        await bus.runtime.event_log.save_snapshot(broken)
        with capture_logs() as lines:
            for number in range(2, 4):
                receipt = await bus.execute(Add(list_id="a", number=number))
                assert (receipt.result, receipt.versions) == (
                    (number - 1, number), {"listing-a": number},
                )  # fmt: skip
        told = [line for line in lines if line["event"] == "no_snapshot"]
    assert [line["aggregate"].rpartition(".")[2] for line in told] == [kind.__name__]


class Bump(Command):
    counter_id: str


class Bumped(Event):
    pass


def counting(every: int, state: Any = int) -> tuple[type[Aggregate], Router]:
    """An aggregate that counts its events; `state` is the type of another attribute."""

    class Counting(Aggregate, snapshot_every=every):
        count: int = 0
        more: state = 0

        def apply(self, event: Event) -> None:
            match event:
                case Bumped():
                    self.count += 1

    router = Router("counting")

    @router.command
    async def bump(command: Bump, counters: Repository[Counting]) -> int:
        found = await counters.find(command.counter_id)
        if found is None:
            found = Counting(command.counter_id)
            counters.add(found)
        found.record(Bumped())
        return found.count

    return Counting, router


async def bumped(bus: Bus, times: int) -> int:
    """Records as many events; the version of the snapshot that there is then, or 0."""
    for _ in range(times):
        await bus.execute(Bump(counter_id="c"))
    snapshot = await bus.runtime.event_log.snapshot("counting-c")
    return snapshot.version if snapshot else 0


async def test_a_snapshot_that_is_passed_over_or_missing_is_made_at_the_next_save() -> None:
    kind, router = counting(4)
    async with Bus("counts", routers=[router], settings=Settings.in_memory()) as bus:
        log = bus.runtime.event_log
        assert await bumped(bus, 5) == 4
        await log.forget_snapshots()
        assert await bumped(bus, 1) == 6
        assert await bumped(bus, 1) == 6
        assert await bumped(bus, 1) == 8
        older = Snapshot("counting-c", 8, "of another release", {"count": 99})
        await log.forget_snapshots()
        await log.save_snapshot(older)
        assert await bumped(bus, 1) == 9
        snapshot = await log.snapshot("counting-c")
        assert snapshot is not None
        assert kind.from_snapshot(snapshot, "c") is not None
        assert snapshot.state["count"] == 9


async def test_what_can_have_no_snapshot_is_tried_at_its_turn_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, router = counting(4)
    tried: list[int] = []

    def failing(aggregate: Aggregate) -> Snapshot:
        tried.append(aggregate.version)
        raise RuntimeError("it has none")

    monkeypatch.setattr(kind, "to_snapshot", failing)
    async with Bus("counts", routers=[router], settings=Settings.in_memory()) as bus:
        with capture_logs() as lines:
            assert await bumped(bus, 13) == 0
    assert tried == [4, 8, 12]
    assert len([line for line in lines if line["event"] == "no_snapshot"]) == 1


@pytest.mark.parametrize("state", [type("Alien", (), {}), "Unknown"])
async def test_state_of_a_type_that_no_snapshot_can_hold_is_told_once(state: Any) -> None:
    _, router = counting(1, state)
    async with Bus("counts", routers=[router], settings=Settings.in_memory()) as bus:
        with capture_logs() as lines:
            await bumped(bus, 3)
    assert len([line for line in lines if line["event"] == "no_snapshot"]) == 1


async def test_final_state_is_kept_without_a_word() -> None:
    kind, router = counting(1, Final[int])
    async with Bus("counts", routers=[router], settings=Settings.in_memory()) as bus:
        with capture_logs() as lines:
            assert await bumped(bus, 3) == 3
    assert not [line for line in lines if line["event"] == "no_snapshot"]
    assert kind.snapshot_every == 1


def test_an_aggregate_that_no_repository_could_load_is_refused_by_the_bus() -> None:
    class Clocked(Aggregate, events=[Bumped]):
        def __init__(self, id: str, clock: Any) -> None:
            super().__init__(id)
            self.clock = clock

    router = Router("clocks")

    @router.command
    async def bump(command: Bump, clocks: Repository[Clocked]) -> None: ...

    with pytest.raises(ConfigurationError, match="Clocked: its __init__ takes"):
        Bus("clockwork", routers=[router], settings=Settings.in_memory())
