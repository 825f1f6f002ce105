"""Listeners that are called apart, slow ones, and the tracer: none of them harms anybody."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus import Bus, Command, Envelope, Router, Settings, signals
from bus.observe.listeners import MOST_BEHIND, Signals
from bus.observe.signals import CommandHandled, HandlerRun, QueryAnswered, Signal
from bus.observe.tracer import Batch, Ended
from bus.transports.base import Delivery, Frame
from tests.waiting import until

pytestmark = pytest.mark.real_time


class Open(Command):
    pass


moves = Router("moves")


@moves.command
async def open_it(command: Open) -> None:
    pass


async def test_what_is_called_apart_holds_up_nobody_and_hears_all_in_order() -> None:
    told, heard, may_go_on = Signals("bank"), list[int](), threading.Event()

    def wait(signal: signals.WorkerStopped) -> None:
        may_go_on.wait(60)
        heard.append(signal.unfinished)

    told.listen(signals.WorkerStopped, wait, apart=True)
    for number in range(100):
        told.emit(signals.WorkerStopped, number)
    assert heard == []
    may_go_on.set()
    await until(lambda: len(heard) == 100, "all are heard")
    assert heard == list(range(100))


async def test_a_bus_has_a_thread_call_a_listener() -> None:
    bus, threads = Bus("bank", routers=[moves], settings=Settings.in_memory()), list[int]()
    stop = bus.listen(CommandHandled, lambda run: threads.append(threading.get_ident()), apart=True)
    async with bus:
        await bus.execute(Open())
        await until(lambda: threads, "it was called")
        stop()
        await bus.execute(Open())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_one_that_cannot_keep_up_loses_signals_and_that_is_said() -> None:
    told, heard, may_go_on = Signals("bank"), list[Signal](), threading.Event()
    behind = list[signals.ListenerBehind]()

    def wait(signal: Signal) -> None:
        may_go_on.wait(60)
        heard.append(signal)

    told.listen(signals.ListenerBehind, behind.append)
    told.listen(Signal, wait, apart=True)
    sent = MOST_BEHIND + 500
    with capture_logs() as lines:
        for number in range(sent):
            told.emit(signals.CommandRepeated, "Open", str(number))
        assert [one.dropped for one in behind] == [1]
        may_go_on.set()
        await until(lambda: len(behind) == 2, "the rest is said once it has caught up", within=60)
    of_repeats = [one for one in heard if isinstance(one, signals.CommandRepeated)]
    assert len(of_repeats) + sum(one.dropped for one in behind) >= sent
    assert {line["event"] for line in lines} >= {"listener_behind"}
    assert behind[0].listener.endswith("wait")


@pytest.mark.parametrize("error", [RuntimeError("no"), asyncio.CancelledError(), SystemExit(1)])
async def test_what_is_raised_apart_is_logged_once_and_it_is_called_again(
    error: BaseException,
) -> None:
    told, heard = Signals("bank"), list[Signal]()

    def broken(signal: Signal) -> None:
        heard.append(signal)
        raise error

    told.listen(signals.WorkerStopped, broken, apart=True)
    with capture_logs() as lines:
        for number in range(3):
            told.emit(signals.WorkerStopped, number)
        await until(lambda: len(heard) == 3, "it is called again")
        await until(lambda: [line for line in lines if line["event"] == "listener_failed"], "said")
    assert [line["event"] for line in lines if line["event"] == "listener_failed"] == [
        "listener_failed"
    ]


def test_a_listener_for_which_all_wait_is_named_once() -> None:
    told = Signals("bank")
    told.listen(signals.CommandRepeated, lambda signal: time.sleep(0.06))
    told.listen(signals.CommandRepeated, lambda signal: None)
    with capture_logs() as lines:
        for _ in range(2):
            told.emit(signals.CommandRepeated, "Open", "a")
    slow = [line for line in lines if line["event"] == "listener_slow"]
    assert [(line["signal"], line["seconds"] >= 0.05) for line in slow] == [
        ("command_repeated", True)
    ]


def test_who_makes_do_with_a_sample_does_not_have_each_run_watched() -> None:
    told = Signals("bank")
    stop = told.listen(HandlerRun, lambda run: None, sampled=True)
    assert CommandHandled in told.wanted
    assert CommandHandled in told.sampled
    assert told.each == frozenset()
    stop_another = told.listen(CommandHandled, lambda run: None)
    assert told.each == {CommandHandled}
    stop_another()
    stop()
    assert told.each == told.sampled == frozenset()
    assert QueryAnswered not in told.wanted


class Broken:
    """A tracer that can nothing."""

    share = 1.0

    @property
    def ambient(self) -> Callable[[], object]:
        return self.look

    def look(self) -> object:
        raise RuntimeError("ambient")

    def begin(
        self,
        kind: type[HandlerRun],
        envelope: Envelope,
        handler: str,
        attempt: int,
        came: Delivery | None,
    ) -> tuple[Envelope, Ended] | None:
        raise RuntimeError("begin")

    def sending(self, frame: Frame) -> tuple[Frame, Ended] | None:
        return frame, self.ended

    def batch(self, what: Batch) -> None:
        raise RuntimeError("batch")

    def ended(self, error: BaseException | None) -> None:
        raise RuntimeError("ended")


def test_a_tracer_that_raises_harms_nobody_and_is_logged_once() -> None:
    told, nothing = Signals("bank"), object()
    frame: Any = nothing
    assert told.begin(CommandHandled, frame, "", 1, None) is None
    assert told.sending(frame) is None
    told.batch(Batch("store", "bank", 0.0, (), 1))
    told.trace(Broken())
    odd: Any = [nothing]
    with capture_logs() as lines:
        for _ in range(2):
            assert not told.is_in_trace()
            assert told.begin(CommandHandled, frame, "", 1, None) is None
            begun = told.sending(frame)
            assert begun is not None
            assert begun[0] is nothing
            begun[1](None)
            told.batch_of("receive", "bank.mail", 0.0, odd)
            told.batch(Batch("store", "bank", 0.0, (), 1))
    assert [line["listener"].rpartition(".")[2] for line in lines] == [
        "ambient",
        "begin",
        "ended",
        "batch",
    ]
    assert all(line["event"] == "listener_failed" for line in lines)
    told.trace(None)
    assert told.tracer is None


@pytest.mark.real_time
def test_threads_that_listen_at_once_take_nothing_from_each_other() -> None:
    heard = Signals("bank")
    before = dict(heard.wanted)

    def listen(number: int) -> None:
        for _ in range(500):
            heard.listen(signals.Published, partial(str, number))()

    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(listen, range(8)))
    finally:
        sys.setswitchinterval(often)
    assert heard.wanted == before
