"""Each run of a handler is counted by what came of it; of short ones, a sample is watched."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus import (
    Bus,
    Command,
    Envelope,
    OutcomeUnknown,
    Query,
    Receipt,
    Reject,
    Retry,
    Router,
    Settings,
    signals,
)
from bus.codec import new_envelope
from bus.common import clock
from bus.dispatch.measuring import EVERY, Counted, Route, Sampling
from bus.dispatch.middleware import logged
from bus.observe.listeners import Signals
from bus.observe.signals import CommandHandled, EventHandled, HandlerRun, QueryAnswered
from bus.observe.tracer import Batch, Ended
from bus.transports.base import Delivery, Frame
from tests.unit.accounts import Opened


class Move(Command):
    mood: str = ""


class Look(Query[int]):
    pass


async def passing(envelope: Envelope, following: Any) -> Any:
    return await following(envelope)


def moving(*middleware: Any) -> Bus:
    moves = Router("moves")

    @moves.command
    async def move(command: Move) -> None:
        match command.mood:
            case "later":
                raise Retry(5)
            case "rejects":
                raise Reject("no")
            case "waits":
                await asyncio.sleep(60)

    @moves.query
    async def look(query: Look) -> int:
        return 1

    @moves.event
    async def opened(event: Opened) -> None:
        if event.owner == "nobody":
            raise Reject("no")

    settings = Settings.in_memory()
    return Bus("bank", routers=[moves], settings=settings, middleware=middleware)


def counted(bus: Bus) -> dict[str, tuple[int, int, int]]:
    found: list[Counted] = bus.runtime.dispatcher.counted
    return {one.message: (one.done, one.failed, one.put_off) for one in found}


@pytest.mark.parametrize("middleware", [[], [passing, passing]])
@pytest.mark.parametrize("listens", ["nobody", "sampled", "each"])
async def test_runs_are_counted_exactly_by_what_came_of_them(
    listens: str, middleware: list[Any]
) -> None:
    bus = moving(*middleware)
    if listens != "nobody":
        bus._signals.listen(HandlerRun, lambda run: None, sampled=listens == "sampled")
    async with bus:
        for number in range(306):
            await bus.execute(Move())
            assert counted(bus)["Move"] == (number + 1, 0, 0)
        for _ in range(3):
            with pytest.raises(Reject):
                await bus.execute(Move(mood="rejects"))
            with pytest.raises(Retry):
                await bus.execute(Move(mood="later"))
            await bus.query(Look())
        handle = bus.runtime.dispatcher.handle
        await handle("moves", new_envelope(Opened(owner="Ada")))
        with pytest.raises(Reject):
            await handle("moves", new_envelope(Opened(owner="nobody")))
        assert counted(bus) == {"Move": (306, 3, 3), "Look": (3, 0, 0), "Opened": (1, 1, 0)}
        kinds = {one.kind for one in bus.runtime.dispatcher.counted}
    assert kinds == {CommandHandled, QueryAnswered, EventHandled}


@pytest.mark.parametrize("middleware", [[], [passing]])
async def test_a_run_counts_once_it_has_ended_and_as_failed_if_it_is_cancelled(
    middleware: list[Any],
) -> None:
    bus = moving(*middleware)
    async with bus:
        runs = [asyncio.create_task(bus.execute(Move(mood="waits"))) for _ in range(5)]
        await asyncio.sleep(1)
        assert counted(bus)["Move"] == (0, 0, 0)
        runs[0].cancel()
        await asyncio.wait(runs[:1])
        assert counted(bus)["Move"] == (0, 1, 0)
        await asyncio.gather(*runs[1:])
        assert counted(bus)["Move"] == (4, 1, 0)


@pytest.mark.parametrize("middleware", [[], [passing]])
async def test_a_run_that_fails_is_counted_whole_before_anybody_is_told(
    middleware: list[Any],
) -> None:
    bus, seen = moving(*middleware), list[tuple[int, int, int]]()
    bus.listen(signals.MessageFailed, lambda _: seen.append(counted(bus)["Move"]))
    bus.listen(signals.PutOff, lambda _: seen.append(counted(bus)["Move"]))
    async with bus:
        with pytest.raises(Reject):
            await bus.execute(Move(mood="rejects"))
        with pytest.raises(Retry):
            await bus.execute(Move(mood="later"))
    assert seen == [(0, 1, 0), (0, 1, 1)]


async def test_a_command_that_is_stored_although_its_run_raised_is_done() -> None:
    async def fails(envelope: Envelope) -> None:
        raise RuntimeError("no")

    async def settled(error: Exception, envelope: Envelope) -> Receipt | None:
        return Receipt(envelope.id, {})

    route = Route(CommandHandled, "Move", "move")
    await logged(fails, Signals(), route, settled=settled)(new_envelope(Move()))
    assert route.counted[3:] == (1, 0, 0)


async def test_a_run_of_which_nobody_can_say_what_became_of_it_has_failed() -> None:
    async def fails(envelope: Envelope) -> None:
        raise RuntimeError("no")

    async def settled(error: Exception, envelope: Envelope) -> Receipt | None:
        raise OutcomeUnknown("the log cannot be asked")

    route = Route(CommandHandled, "Move", "move")
    with pytest.raises(OutcomeUnknown):
        await logged(fails, Signals(), route, settled=settled)(new_envelope(Move()))
    assert route.counted[3:] == (0, 1, 0)


async def test_a_sample_of_short_runs_stands_for_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 60.0)
    bus, heard = moving(), list[CommandHandled]()
    bus._signals.listen(CommandHandled, heard.append, sampled=True)
    async with bus:
        for _ in range(20 * EVERY):
            await bus.execute(Move())
        assert 20 <= len(heard) <= 22
        runs = sum(one.runs for one in heard)
        assert runs == 20 * EVERY - bus.runtime.dispatcher._commands[Move].untold()


async def test_a_sample_stands_for_no_run_before_somebody_listened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 60.0)
    bus, heard = moving(), list[CommandHandled]()
    async with bus:
        for _ in range(300):
            await bus.execute(Move())
        bus._signals.listen(CommandHandled, heard.append, sampled=True)
        for _ in range(EVERY + 1):
            await bus.execute(Move())
        assert counted(bus)["Move"] == (301 + EVERY, 0, 0)
        untold = bus.runtime.dispatcher._commands[Move].untold()
    assert heard[0].runs == 1
    assert sum(one.runs for one in heard) + untold == EVERY + 1


async def test_runs_that_take_longer_are_all_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 0.0)
    bus, heard = moving(), list[CommandHandled]()
    bus._signals.listen(CommandHandled, heard.append, sampled=True)
    async with bus:
        for _ in range(300):
            await bus.execute(Move())
        await asyncio.gather(*(bus.execute(Move()) for _ in range(100)))
    assert len(heard) == 400
    assert sum(one.runs for one in heard) == 400


async def test_who_listens_hears_each_run_from_the_next_one_on() -> None:
    bus, heard = moving(), list[HandlerRun]()
    bus._signals.listen(HandlerRun, lambda run: None, sampled=True)
    async with bus:
        for _ in range(EVERY + 7):
            await bus.execute(Move())
        stop = bus.listen(CommandHandled, heard.append)
        for _ in range(10):
            await bus.execute(Move())
            await bus.query(Look())
        stop()
        await bus.execute(Move())
    assert len(heard) == 10
    assert {type(one) for one in heard} == {CommandHandled}


class Traces:
    """A tracer that notes what it was told to begin."""

    def __init__(self, share: float = 0.0) -> None:
        self.share = share
        self.there: object = None
        self.begun: list[Envelope] = []
        self.ended: list[str] = []

    @property
    def ambient(self) -> Callable[[], object]:
        return lambda: self.there

    def begin(
        self,
        kind: type[HandlerRun],
        envelope: Envelope,
        handler: str,
        attempt: int,
        came: Delivery | None,
    ) -> tuple[Envelope, Ended] | None:
        self.begun.append(envelope)
        changed = envelope._replace(headers={**envelope.headers, "traceparent": "ours"})
        return changed, lambda error: self.ended.append(type(error).__name__)

    def sending(self, frame: Frame) -> tuple[Frame, Ended] | None:
        return None

    def batch(self, what: Batch) -> None:
        pass


async def test_a_run_with_a_context_is_begun_and_ended_with_what_it_raised() -> None:
    seen = list[Any]()

    async def seeing(envelope: Envelope, following: Any) -> Any:
        seen.append(envelope.headers)
        return await following(envelope)

    bus, tracer = moving(seeing), Traces()
    bus._signals.trace(tracer)
    async with bus:
        await bus.execute(Move())
        await bus.execute(Move(), headers={"tenant": "a"})
        assert (tracer.begun, seen) == ([], [{}, {"tenant": "a"}])
        tracer.there = "an HTTP request"
        await bus.execute(Move())
        tracer.there = None
        with pytest.raises(Reject):
            await bus.execute(Move(mood="rejects"), headers={"traceparent": "theirs"})
        bus._signals.trace(None)
        await bus.execute(Move(), headers={"traceparent": "theirs"})
    assert [one.headers for one in tracer.begun] == [{}, {"traceparent": "theirs"}]
    assert seen[2:] == [{"traceparent": "ours"}] * 2 + [{"traceparent": "theirs"}]
    assert tracer.ended == ["NoneType", "Reject"]


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0.0, 0, 0), (0.02, 20, 70), (0.6, 1100, 1300), (1.0, 2000, 2000)]
)
async def test_a_share_of_the_runs_without_a_context_begins_a_trace(
    share: float, least: int, most: int
) -> None:
    bus, tracer = moving(), Traces(share)
    bus._signals.trace(tracer)
    async with bus:
        for _ in range(1000):
            await bus.execute(Move())
            await bus.query(Look())
    begun = Counter(one.name for one in tracer.begun)
    assert least <= begun["Move"] + begun["Look"] <= most


async def test_one_run_stands_for_itself_where_each_is_heard() -> None:
    bus, heard = moving(), list[HandlerRun]()
    async with bus:
        for _ in range(10):
            await bus.execute(Move())
        bus.listen(signals.CommandHandled, heard.append)
        await bus.execute(Move())
    assert [one.runs for one in heard] == [1]


async def test_runs_with_a_context_do_not_have_more_traces_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 0.0)  # so that each run is watched
    bus, tracer = moving(), Traces(0.05)
    bus._signals.listen(CommandHandled, lambda run: None, sampled=True)
    bus._signals.trace(tracer)
    async with bus:
        for _ in range(200):
            await bus.execute(Move())
            for _ in range(10):
                await bus.execute(Move(), headers={"traceparent": "theirs"})
    assert 1 <= sum(not envelope.headers for envelope in tracer.begun) <= 40


async def test_a_sample_stands_for_no_run_that_only_a_tracer_had_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 60.0)
    bus, heard = moving(), list[CommandHandled]()
    bus._signals.trace(Traces())
    async with bus:
        for _ in range(300):
            await bus.execute(Move())
        bus._signals.listen(CommandHandled, heard.append, sampled=True)
        for _ in range(5 * EVERY):
            await bus.execute(Move())
        untold = bus.runtime.dispatcher._commands[Move].untold()
    assert heard
    assert sum(one.runs for one in heard) + untold == 5 * EVERY


async def test_who_hears_each_run_has_none_stand_for_others_beside_who_makes_do_with_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 60.0)
    bus, sample, heard = moving(), list[HandlerRun](), list[HandlerRun]()
    bus._signals.listen(CommandHandled, sample.append, sampled=True)
    async with bus:
        for _ in range(60):
            await bus.execute(Move())
        stop = bus.listen(signals.HandlerRun, heard.append)
        await bus.execute(Move())
        await bus.execute(Move())
        stop()
        await bus.execute(Move())
        untold = bus.runtime.dispatcher._commands[Move].untold()
    assert [one.runs for one in heard] == [1, 1]
    assert sum(one.runs for one in sample) + untold == 63


async def test_a_tracer_that_comes_later_begins_no_traces_for_runs_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 60.0)
    bus, tracer = moving(), Traces(0.001)
    monkeypatch.setattr(clock.source, "fraction", lambda: 0.002)
    bus._signals.listen(CommandHandled, lambda run: None, sampled=True)
    async with bus:
        for _ in range(100):
            await bus.execute(Move())
        bus._signals.trace(tracer)
        await bus.execute(Move(), headers={"tenant": "a"})
    assert tracer.begun == []


async def test_a_tracer_that_cannot_say_whether_there_is_a_context_harms_no_run() -> None:
    def fails() -> object:
        raise RuntimeError("no context")

    class Failing(Traces):
        @property
        def ambient(self) -> Callable[[], object]:
            return fails

    bus = moving()
    bus._signals.trace(Failing())
    with capture_logs() as lines:
        async with bus:
            for _ in range(3):
                await bus.execute(Move())
        assert counted(bus)["Move"] == (3, 0, 0)
    assert [line["event"] for line in lines if "listener" in line] == ["listener_failed"]


@pytest.mark.parametrize(
    ("a_second", "least", "most"), [(50, 1.0, 1.0), (5000, 0.01, 0.04), (200_000, 0.0005, 0.02)]
)
def test_of_what_comes_often_about_as_much_is_taken(
    monkeypatch: pytest.MonkeyPatch, a_second: int, least: float, most: float
) -> None:
    now = 0.0
    monkeypatch.setattr("bus.dispatch.measuring.time", SimpleNamespace(monotonic=lambda: now))
    sampling, taken, left, count = Sampling(), 0, 0, 10 * a_second
    for came in range(count):
        now = came / a_second
        left -= 1
        if left < 0:
            taken += 1
            left = sampling.pause(came + 1)
    assert least <= taken / count <= most


@pytest.mark.real_time
async def test_runs_of_a_long_handler_that_come_often_are_a_sample_that_stands_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bus.dispatch.measuring.SHORT", 0.0)
    monkeypatch.setattr("bus.dispatch.measuring.OFTEN", 5)
    bus, heard = moving(), list[CommandHandled]()
    bus._signals.listen(CommandHandled, heard.append, sampled=True)
    async with bus:
        began, count = time.monotonic(), 0
        while time.monotonic() - began < 1:
            await bus.execute(Move())
            count += 1
        untold = bus.runtime.dispatcher._commands[Move].untold()
    assert sum(one.runs for one in heard) + untold == count
    assert len(heard) < count / 2
