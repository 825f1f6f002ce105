"""Snapshots that would give another state than the events: passed over, and told once."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from bus import Aggregate, Bus, Command, Event, Repository, Router, Settings
from bus.stores.base import Snapshot


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
    (told,) = [line for line in lines if line["event"] == "no snapshot"]
    assert (told["log_level"], told["stream"]) == ("warning", "listing-a")
    assert "pair" in told["reason"]


async def test_a_snapshot_that_cannot_be_read_is_told_once_and_passed_over() -> None:
    kind, router = listing(pair=tuple[int, int])
    async with Bus("lists", routers=[router], settings=Settings.in_memory()) as bus:
        await bus.execute(Add(list_id="a", number=1))
        good = await bus.parts.event_log.snapshot("listing-a")
        assert good is not None
        assert good.state == {"pair": [0, 1]}
        broken = Snapshot("listing-a", 9, good.shape, {"pair": "torn"})
        await bus.parts.event_log.save_snapshot(broken)
        with capture_logs() as lines:
            for number in range(2, 4):
                receipt = await bus.execute(Add(list_id="a", number=number))
                assert (receipt.result, receipt.versions) == (
                    (number - 1, number), {"listing-a": number},
                )  # fmt: skip
        told = [line for line in lines if line["event"] == "no snapshot"]
    assert [line["aggregate"].rpartition(".")[2] for line in told] == [kind.__name__]
