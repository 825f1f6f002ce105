"""Facts: the states of a service are measured by one of its workers, and that harms nobody."""

import asyncio
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from bus import Bus, Settings, StoreUnavailable, Worker, signals
from bus.operate.projections import Projections
from bus.rebuild.drift import audit_of
from bus.telemetry.facts import LEASE, MOST_GROUPS, Facts, largest, partition_of
from tests.service.audit_contract import damage
from tests.service.wallet import Diary, Pay, build
from tests.waiting import until

OFTEN = 0.05
MEASURED = (
    signals.LagMeasured,
    signals.BacklogMeasured,
    signals.QueueMeasured,
    signals.LettersMeasured,
    signals.BuildMeasured,
    signals.AuditKnown,
    signals.PartitionHeld,
    signals.StatesMeasured,
)

Kind = TypeVar("Kind", bound=signals.Signal)


pytestmark = pytest.mark.usefixtures("every_level")


class Heard:
    """The states that a bus has told."""

    def __init__(self, bus: Bus) -> None:
        self._told: list[signals.Signal] = []
        for kind in MEASURED:
            bus.listen(kind, self._told.append)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [signal for signal in self._told if isinstance(signal, kind)]

    def last(self, kind: type[Kind]) -> Kind:
        return self.of(kind)[-1]

    async def anew(self) -> None:
        """Waits until all is measured that is so now."""
        self._told.clear()
        await until(lambda: len(self.of(signals.StatesMeasured)) >= 2, "all is measured twice")


def bank(diary: Diary | None = None) -> Bus:
    return build(Settings.in_memory(facts_every=OFTEN), diary, "bank")


async def test_a_worker_tells_how_its_service_is() -> None:
    bus = bank()
    heard = Heard(bus)
    async with bus, Worker(bus):
        for mood in ("", "unprojectable", "hopeless"):
            await bus.execute(Pay(wallet_id=f"w{mood}", amount=1, mood=mood))
        await until(lambda: bool(heard.of(signals.LettersMeasured)), "letters are measured")
        await until(
            lambda: (
                bool(heard.last(signals.LettersMeasured).groups)
                and heard.last(signals.LagMeasured).parked == 1
            ),
            "the letter and the parked stream are told",
        )
        await heard.anew()
        lag = heard.last(signals.LagMeasured)
        assert (lag.projection, lag.events, lag.more, lag.parked) == ("wallets", 0, False, 1)
        assert heard.last(signals.BacklogMeasured).commits == 0
        queues = {told.queue: told for told in heard.of(signals.QueueMeasured)}
        assert queues.keys() == {queue.name for queue in bus.runtime.topology.queues}
        assert all(told.consumers >= told.expected == 1 for told in queues.values())
        (group,) = heard.last(signals.LettersMeasured).groups
        assert group == ("bank.thanking", "Paid", "Hopeless", 1)
        await until(
            lambda: any(told.held for told in heard.of(signals.PartitionHeld)),
            "its partition is held",
        )
    assert heard.last(signals.StatesMeasured).goes_on is False


async def test_an_audit_is_known_from_then_on_and_a_repair_settles_it() -> None:
    bus = bank()
    heard = Heard(bus)
    async with bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        await bus.runtime.freshness.wait_for(bus.runtime.projections, receipt.versions, 60)
        assert heard.of(signals.AuditKnown) == []
        control = bus.runtime.control
        began = control.now().timestamp()
        await Projections(bus).audit("wallets")
        await heard.anew()
        known = heard.last(signals.AuditKnown)
        assert (known.projection, known.differences) == ("wallets", 0)
        assert began <= known.at <= control.now().timestamp()
        await Projections(bus).refold("wallets", documents=["a"])  # no audit
        await heard.anew()
        assert heard.last(signals.AuditKnown) == known


async def test_a_sample_without_differences_does_not_end_what_a_whole_audit_found() -> None:
    bus = bank()
    async with bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        await bus.runtime.freshness.wait_for(bus.runtime.projections, receipt.versions, 60)
        note = audit_of((await bus.runtime.catalogue.target(bus.runtime.projections[0])).collection)

        async def known(*, sample: int = 0) -> int:
            await Projections(bus).audit("wallets", sample=sample)
            return int((await bus.runtime.control.note(note)).value["differences"])

        stood = await damage(bus, "wallets", "a", {"total": 99})
        assert await known() == 1
        await damage(bus, "wallets", "a", stood)
        assert await known(sample=1) == 1
        assert await known() == 0
        await damage(bus, "wallets", "a", {"total": 99})
        assert await known(sample=1) == 1


async def test_nothing_is_asked_while_nobody_listens() -> None:
    bus = bank()
    async with bus, Worker(bus):
        await asyncio.sleep(OFTEN * 5)
        assert await bus.runtime.control.lease(LEASE, "another", 60)
        assert bus.runtime.checkup.last is None


async def test_who_has_no_lease_measures_nothing_and_says_so_once() -> None:
    bus = bank()
    heard = Heard(bus)
    async with bus:
        one, other = Facts(bus.runtime), Facts(bus.runtime)
        assert await one.measure()
        assert not await other.measure()
        assert [told.goes_on for told in heard.of(signals.StatesMeasured)] == [True]
        async with asyncio.timeout(60):
            while not await other.measure():  # noqa: ASYNC110 (a lease that nobody keeps ends)
                await asyncio.sleep(OFTEN)
        told = len(heard.of(signals.BacklogMeasured))
        assert not await one.measure()
        assert not await one.measure()
        assert len(heard.of(signals.BacklogMeasured)) == told
        assert [told.goes_on for told in heard.of(signals.StatesMeasured)] == [True, True, False]


async def test_what_cannot_be_measured_is_named_once_and_all_else_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = bank()
    heard = Heard(bus)

    async def fails() -> None:
        raise RuntimeError("no groups")

    async def is_away() -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(bus.runtime.control, "dead_letter_groups", fails)
    monkeypatch.setattr(bus.runtime.event_log, "backlog", lambda most: is_away())
    with capture_logs() as lines:
        async with bus, Worker(bus):
            await heard.anew()
            assert (await bus.health()).ready
    assert heard.of(signals.LagMeasured)
    assert heard.of(signals.QueueMeasured)
    assert not heard.of(signals.LettersMeasured)
    told = [line for line in lines if line["event"] == "not_measured"]
    assert {(line["part"], line["log_level"]) for line in told} == {
        ("dead letters", "error"),
        ("backlog", "info"),
    }
    assert len(told) == 2
    assert heard.of(signals.StatesMeasured)[0].failing == ["backlog", "dead letters"]


async def test_who_measured_says_that_it_does_not_any_more_though_its_lease_is_over() -> None:
    bus = bank()
    heard = Heard(bus)
    async with bus:
        facts = Facts(bus.runtime)
        assert await facts.measure()
        async with asyncio.timeout(60):
            while not await bus.runtime.control.lease(LEASE, "another", 60):  # noqa: ASYNC110
                await asyncio.sleep(OFTEN)
        running = asyncio.create_task(facts.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [told.goes_on for told in heard.of(signals.StatesMeasured)] == [True, False]


async def test_no_partition_is_held_once_the_worker_has_left() -> None:
    bus = bank()
    heard = Heard(bus)
    async with bus:
        async with Worker(bus):
            await bus.execute(Pay(wallet_id="a", amount=1))
            await until(
                lambda: any(told.held for told in heard.of(signals.PartitionHeld)),
                "its partition is held",
            )
        last = heard.last(signals.PartitionHeld)
        assert (last.projection, last.partition, last.held) == ("wallets", 0, False)


def test_many_groups_of_letters_are_one_in_the_end() -> None:
    groups = [
        {"queue": "q", "message": "Paid", "error": f"Error{number}", "count": number}
        for number in range(1, 101)
    ]
    groups.append({"queue": "q", "message": "Paid", "error": "Error100", "count": 5})
    found = largest(groups)
    assert len(found) == MOST_GROUPS
    assert found[0] == ("q", "Paid", "Error100", 105)
    assert found[-1] == ("other", "other", "other", sum(range(1, 52)))
    assert largest([]) == []


@pytest.mark.parametrize(
    ("queue", "partition"), [("bank.wallets", 0), ("bank.wallets.2of4", 2), ("b.x2.10of16", 10)]
)
def test_a_queue_says_which_partition_it_holds(queue: str, partition: int) -> None:
    assert partition_of(queue) == partition
