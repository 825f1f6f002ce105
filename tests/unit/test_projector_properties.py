"""Whatever is reordered, repeated, lost or interrupted: the documents equal the fold of the log."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bus import OutcomeUnknown, StoreUnavailable
from bus.codec import envelopes_of, record
from bus.common import clock
from bus.messages import Envelope, Event
from bus.read.projection import Projection
from bus.read.projector import Projector
from bus.read.sweeper import Sweeper
from bus.stores.collections import Changes, Fold, Writer
from bus.stores.event_log import Commit
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.testing.contracts.projection_contract import (
    Closed,
    Deposited,
    Opened,
    accounts,
    banks,
    ledgers,
)
from tests.examples import hundreds

NAMES: dict[str, type[Event]] = {"Opened": Opened, "Deposited": Deposited, "Closed": Closed}
RUNNER = asyncio.Runner()
STREAMS = ["account-a", "account-b", "account-c"]


class CrashingWriter:
    """Fails at the named point of the next transaction, as a killed process or a cut would."""

    def __init__(self, inner: Writer) -> None:
        self._inner = inner
        self.crash_at = ""

    async def take_over(self) -> None:
        await self._inner.take_over()

    async def close(self) -> None:
        await self._inner.close()

    async def transact(
        self, streams: Sequence[str], fold: Fold, *, believed: Mapping[str, int] | None = None
    ) -> Changes:
        point, self.crash_at = self.crash_at, ""
        if point == "before the commit":

            async def interrupted(unit: Any) -> Changes:
                await fold(unit)
                raise StoreUnavailable("crashed before the commit")

            await self._inner.transact(streams, interrupted, believed=believed)
        changes = await self._inner.transact(streams, fold, believed=believed)
        if point == "after the commit":
            raise OutcomeUnknown("crashed after the commit")
        return changes


class ProjectorMachine(RuleBasedStateMachine):
    """The model is the list of events that each stream holds."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryEventLog()
        self.collections, self.control = MemoryCollections(), MemoryControl()
        self.held: dict[str, list[Event]] = {stream: [] for stream in STREAMS}
        self.travelling: list[Envelope] = []

    def run(self, step: Any) -> Any:
        return RUNNER.run(step)

    @initialize(make=st.sampled_from([accounts, banks, ledgers]))
    def start(self, make: Any) -> None:
        self.projection: Projection[Any] = make()
        self.run(self.collections.prepare(self.projection.target()))
        self.restart()

    @rule(
        stream=st.sampled_from(STREAMS),
        amounts=st.lists(st.integers(min_value=0, max_value=99), min_size=1, max_size=4),
        owner=st.sampled_from(["", "Ada", "Bob"]),
        close=st.sampled_from([False, False, False, True]),
    )
    def commit(self, stream: str, amounts: list[int], owner: str, close: bool) -> None:
        events: list[Event] = [Opened(owner=owner)] if owner else []
        events += [Deposited(amount=amount) for amount in amounts]
        events += [Closed()] if close else []
        held = self.held[stream]
        commit = Commit(
            clock.new_id(), stream, "account", len(held) + 1,
            tuple(record(event) for event in events), clock.now(), "c",
        )  # fmt: skip
        self.run(self.log.append([commit]))
        held += events
        self.travelling += envelopes_of(commit, NAMES)

    @rule(data=st.data())
    def deliver_some_in_any_order_and_maybe_again(self, data: st.DataObject) -> None:
        if self.travelling:
            places = st.integers(0, len(self.travelling) - 1)
            chosen = data.draw(st.lists(places, min_size=1, max_size=12))
            self.run(self.projector.apply([self.travelling[place] for place in chosen]))

    @rule()
    def lose_what_travels(self) -> None:
        self.travelling.clear()

    @rule(data=st.data(), point=st.sampled_from(["before the commit", "after the commit"]))
    def crash_in_a_batch(self, data: st.DataObject, point: str) -> None:
        self.writer.crash_at = point
        try:
            self.deliver_some_in_any_order_and_maybe_again(data)
        except (StoreUnavailable, OutcomeUnknown):
            self.restart()
        self.writer.crash_at = ""

    @rule()
    def restart(self) -> None:
        target = self.projection.target()
        self.writer = CrashingWriter(self.collections.writer(target, "queue"))
        self.projector = Projector(
            self.projection, target, self.log, self.collections, self.control, self.writer
        )
        self.run(self.projector.take_over())

    @invariant()
    def documents_are_the_fold_of_what_their_streams_have_reached(self) -> None:
        if not hasattr(self, "projection"):
            return
        target = self.projection.target()
        reached = self.run(self.collections.versions(target, STREAMS))
        expected = self.fold({stream: reached.get(stream, 0) for stream in STREAMS})
        found = self.run(self.collections.documents(target).find({}))
        assert {document.pop("_id"): document for document in found} == expected

    def teardown(self) -> None:
        if hasattr(self, "projection"):
            self.run(self.sweep())
            target = self.projection.target()
            reached = self.run(self.collections.versions(target, STREAMS))
            assert reached == {s: len(held) for s, held in self.held.items() if held}
            self.documents_are_the_fold_of_what_their_streams_have_reached()

    async def sweep(self) -> None:
        later = clock.Source()
        later.seconds = lambda: clock.Source().seconds() + 3600
        before, clock.source = clock.source, later
        try:
            await Sweeper(self.projector, self.log, self.collections, self.control).sweep()
        finally:
            clock.source = before

    def fold(self, reached: dict[str, int]) -> dict[str, dict[str, Any]]:
        """The documents, folded by plain Python."""
        found: dict[str, dict[str, Any]] = {}
        for stream, version in reached.items():
            for event in self.held[stream][:version]:
                self.fold_one(found, stream.partition("-")[2], event)
        return found

    def fold_one(self, found: dict[str, dict[str, Any]], key: str, event: Event) -> None:
        match self.projection.name, event:
            case "accounts", Opened():
                found.setdefault(key, {})["owner"] = event.owner
            case "accounts", Deposited():
                document = found.setdefault(key, {})
                document["total"] = document.get("total", 0) + event.amount
            case "accounts", Closed():
                found.pop(key, None)
            case "banks", Deposited():
                document = found.setdefault(event.bank, {"total": 0, "deposits": 0})
                document["total"] += event.amount
                document["deposits"] += 1
            case "ledgers", Deposited():
                found.setdefault(key, {"entries": []})["entries"].append(event.amount)


TestProjectorProperties = cast(Any, ProjectorMachine).TestCase
TestProjectorProperties.settings = settings(
    max_examples=hundreds(1.2), stateful_step_count=30, deadline=None, print_blob=True
)


@pytest.fixture(scope="module", autouse=True)
def _one_loop() -> Iterator[None]:
    with RUNNER:
        yield
