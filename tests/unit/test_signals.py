"""Signals: who listens hears what happens; nobody else pays for it, or is harmed by a listener."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from bus import (
    Bus,
    Command,
    ConcurrencyError,
    ConfigurationError,
    OutcomeUnknown,
    Projection,
    Reject,
    Repository,
    Retry,
    Router,
    Settings,
    Update,
    Worker,
    default_backend,
    signals,
    timeout,
)
from bus.assembly.backend import Backend, MakeBackend
from bus.codec import new_envelope, record
from bus.common import clock
from bus.observe.listeners import Signals
from bus.observe.loops import Loops
from bus.observe.signals import KINDS, Signal
from bus.read.sweeper import Sweeper
from bus.stores.event_log import Commit, EventLog
from bus.write.relay import Relay
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.unit.accounts import Account, Open, Opened, View, open_account
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("every_level")


class Move(Command):
    mood: str = ""


moves = Router("moves")


@moves.command
async def move(command: Move) -> None:
    if command.mood == "later":
        raise Retry(5)
    if command.mood == "too late":
        raise ConcurrencyError("somebody was first")
    if command.mood == "rejects":
        raise Reject("no")


opening = Router("opening")
opening.command(open_account)


def moving() -> Bus:
    return Bus("bank", routers=[moves], settings=Settings.in_memory())


class Heard(list[Signal]):
    """All that happens on a bus."""

    def __init__(self, bus: Bus) -> None:
        bus.listen(Signal, self.append)

    def of(self, kind: type[Signal]) -> list[Any]:
        return [one for one in self if type(one) is kind]


@pytest.mark.real_time
async def test_the_way_of_a_command_is_heard_from_end_to_end(unique: str) -> None:
    diary = Diary()
    bus = build(Settings.in_memory(), diary, unique)
    heard = Heard(bus)
    async with bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"), id="c1")
        await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"), id="c1")
        await bus.query(GetWallet(wallet_id="a"), after=receipt)
        await until(lambda: len(heard.of(signals.CommandHandled)) == 2, "Thank is carried out")
        await until(lambda: heard.of(signals.BatchProjected), "projected")
        await until(lambda: heard.of(signals.EventHandled), "handled")
    pay, thank = heard.of(signals.CommandHandled)
    assert (pay.service, pay.message, pay.message_id, pay.outcome) == (unique, "Pay", "c1", "done")
    assert (thank.message, pay.attempt, pay.error) == ("Thank", 1, "")
    assert pay.handler.endswith("payments.<locals>.pay")
    assert 0 < pay.seconds < 60
    assert [one.message_id for one in heard.of(signals.CommandRepeated)] == ["c1"]
    stored = heard.of(signals.EventsStored)[0]
    assert (stored.message, stored.commits, stored.events) == ("Pay", 1, 1)
    assert stored.size > 0
    assert sum(one.messages - one.failed for one in heard.of(signals.Published)) >= 3
    assert heard.of(signals.QueryAnswered)[0].message == "GetWallet"
    handled = heard.of(signals.EventHandled)[0]
    assert (handled.message, handled.handler, handled.outcome) == ("Paid", "thanking", "done")
    assert sum(one.events for one in heard.of(signals.BatchProjected)) >= 1
    assert type(heard[-1]) is signals.WorkerStopped


async def test_tries_and_what_becomes_of_them_are_heard(unique: str) -> None:
    bus = build(Settings.in_memory(), Diary(), unique)
    heard = Heard(bus)
    async with bus, Worker(bus):
        for mood in ("fails once", "rejects", "later"):
            await bus.execute(Pay(wallet_id="a", amount=1, mood=mood))
        await until(lambda: heard.of(signals.GaveUp), "given up")
        await until(lambda: heard.of(signals.PutOff), "put off")
    (retried,) = heard.of(signals.Retried)
    assert (retried.attempt, retried.in_place) == (1, True)
    (given_up,) = heard.of(signals.GaveUp)
    assert given_up.queue == f"{unique}.thanking"
    assert {one.outcome for one in heard.of(signals.EventHandled)} == {"done", "failed", "put_off"}


async def test_a_handler_that_asks_for_a_later_try_has_not_failed() -> None:
    bus = moving()
    heard = Heard(bus)
    with capture_logs() as lines:
        async with bus:
            with pytest.raises(Retry):
                await bus.execute(Move(mood="later"))
            with pytest.raises(Reject):
                await bus.execute(Move(mood="rejects"))
    logged = [(line["log_level"], line["event"]) for line in lines]
    assert logged == [("debug", "put_off"), ("info", "message_failed")]
    outcomes = [one.outcome for one in heard.of(signals.CommandHandled)]
    assert outcomes == ["put_off", "failed"]


class Forgetful:
    """Stores, and does not say so."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        await self._log.append(commits)
        raise OutcomeUnknown("the connection is gone")


def forgetful(settings: Settings, kind: type[Forgetful] = Forgetful) -> MakeBackend:
    usual = default_backend(settings)

    def backend(service: str, projected: Sequence[str], loops: Loops) -> Backend:
        made = usual(service, projected, loops)
        return replace(made, event_log=cast(EventLog, kind(made.event_log)))

    return backend


async def passing(envelope: Any, following: Any) -> Any:
    return await following(envelope)


@pytest.mark.parametrize("middleware", [[], [passing]])
async def test_what_is_found_stored_after_a_doubt_is_stored_and_done_once(
    middleware: list[Any],
) -> None:
    settings = Settings.in_memory()
    bus = Bus(
        "bank",
        routers=[opening],
        settings=settings,
        middleware=middleware,
        backend=forgetful(settings),
    )
    heard = Heard(bus)
    async with bus:
        receipt = await bus.execute(Open(account_id="a"), id="c1")
        assert [one.name for one in heard] == ["events_stored", "command_handled"]
        again = await bus.execute(Open(account_id="a"), id="c1")
    assert again == receipt
    (stored,) = heard.of(signals.EventsStored)
    assert (stored.message, stored.message_id) == ("Open", "c1")
    assert (stored.commits, stored.events) == (1, 1)
    assert stored.size > 0
    assert 0 <= stored.seconds < 60
    assert [one.outcome for one in heard.of(signals.CommandHandled)] == ["done"]
    assert [one.message_id for one in heard.of(signals.CommandRepeated)] == ["c1"]
    assert heard.of(signals.MessageFailed) == []


class Slow(Forgetful):
    """Stores, and takes its time before it says so."""

    async def append(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        await self._log.append(commits)
        await asyncio.sleep(60)
        return commits


async def test_what_is_stored_as_its_time_is_up_is_stored_and_done_once() -> None:
    settings = Settings.in_memory()
    limits, backend = [timeout(0.05)], forgetful(settings, Slow)
    bus = Bus("bank", routers=[opening], settings=settings, middleware=limits, backend=backend)
    heard = Heard(bus)
    async with bus:
        await bus.execute(Open(account_id="a"), id="c1")
    assert [one.name for one in heard] == ["events_stored", "command_handled"]


async def test_what_an_event_handler_did_is_told_once_after_a_doubt() -> None:
    settings, greeting = Settings.in_memory(), Router("greeting")

    @greeting.event
    async def greet(event: Opened, accounts: Repository[Account]) -> None:
        account = Account(f"friend-of-{event.owner}")
        account.record(Opened(owner="nobody"))
        accounts.add(account)

    bus = Bus("bank", routers=[greeting], settings=settings, backend=forgetful(settings))
    heard = Heard(bus)
    async with bus:
        opened = new_envelope(Opened(owner="Ada"))._replace(stream="account-a", version=1)
        await bus.runtime.dispatcher.handle("greeting", opened)
    assert [one.name for one in heard] == ["events_stored", "event_handled"]
    assert [one.outcome for one in heard.of(signals.EventHandled)] == ["done"]


async def test_a_doubt_without_an_id_to_ask_by_is_a_failure() -> None:
    settings = Settings.in_memory()
    bus = Bus("bank", routers=[opening], settings=settings, backend=forgetful(settings))
    heard = Heard(bus)
    async with bus:
        with pytest.raises(OutcomeUnknown):
            await bus.execute(Open(account_id="a"))
    assert [one.name for one in heard] == ["message_failed", "command_handled"]
    assert [one.outcome for one in heard.of(signals.CommandHandled)] == ["failed"]


async def test_a_sweep_names_the_projection_and_its_collection() -> None:
    owners = Projection("owners", of=[Account], view=View, version=2)

    @owners.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    bus = Bus("bank", projections=[owners], settings=Settings.in_memory())
    heard = Heard(bus)
    async with bus:
        runtime = bus.runtime
        time = clock.now() - timedelta(minutes=1)
        events = (record(Opened(owner="Ada")),)
        await runtime.event_log.append([Commit("c", "account-a", "account", 1, events, time, "c")])
        projector = runtime.projector(owners, owners.target(), "sweeping")
        assert await Sweeper(
            projector, runtime.read_log, runtime.collections, runtime.control
        ).sweep()
        await projector.close()
    (swept,) = heard.of(signals.Swept)
    assert (swept.projection, swept.collection, swept.missing) == ("owners", "owners__v2", 1)


def test_a_line_says_only_what_its_signal_has() -> None:
    told = Signals("bank")
    with capture_logs() as lines:
        told.emit(signals.ConsumerReopened, "bank.owners", "forgotten", round=1)
        told.emit(signals.ConsumerReopened, "bank.owners", "stuck", waiting=3)
    assert [line.keys() & {"round", "waiting"} for line in lines] == [{"round"}, {"waiting"}]


async def test_each_conflict_of_a_run_is_heard() -> None:
    bus = moving()
    heard = Heard(bus)
    async with bus:
        with pytest.raises(ConcurrencyError):
            await bus.execute(Move(mood="too late"))
    assert [one.conflicts for one in heard.of(signals.Conflicted)] == list(range(1, 10))


async def test_a_listener_that_raises_harms_nobody_and_is_logged_once_for_each_kind() -> None:
    bus = moving()

    def broken(signal: Signal) -> None:
        raise SystemExit("no more")

    bus.listen(signals.CommandHandled, broken)
    bus.listen(signals.MessageFailed, broken)
    heard = Heard(bus)
    with capture_logs() as lines:
        async with bus:
            for _ in range(3):
                await bus.execute(Move())
            with pytest.raises(Reject):
                await bus.execute(Move(mood="rejects"))
    failed = [line for line in lines if line["event"] == "listener_failed"]
    assert [line["signal"] for line in failed] == ["command_handled", "message_failed"]
    assert all(line["listener"].endswith("broken") and line["exc_info"] for line in failed)
    assert len(heard.of(signals.CommandHandled)) == 4


async def a_coroutine(signal: Signal) -> None:
    pass


class Asynchronous:
    async def __call__(self, signal: Signal) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "listener", "words"),
    [
        (Signal, a_coroutine, "it is async, and nobody would await it"),
        (Signal, functools.partial(a_coroutine), "it is async"),
        (Signal, Asynchronous(), "it is async"),
        (Signal, "count", "it cannot be called"),
        (Signal, lambda: None, "and is called with the signal alone"),
        (Signal, lambda one, two: None, "and is called with the signal alone"),
        (Move, print, "it is not a kind of signal"),
        ("command_handled", print, "it is not a kind of signal"),
    ],
)
def test_what_cannot_listen_is_refused_where_it_is_given(
    kind: Any, listener: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        moving().listen(kind, listener)


def test_where_nobody_listens_nothing_is_made() -> None:
    made: list[object] = []

    def kind(service: str) -> Signal:
        made.append(service)
        return signals.WorkerStopped(service, 0)

    told = Signals("bank")
    told.emit(kind)
    assert made == []
    for often in (signals.CommandHandled, signals.BatchProjected, signals.EventsStored):
        assert often not in told.wanted


async def test_a_relay_tells_those_who_listen_to_its_publisher() -> None:
    bus = moving()
    heard = Heard(bus)
    async with bus:
        runtime = bus.runtime
        time = clock.now() - timedelta(minutes=1)
        events = (record(Opened(owner="Ada")),)
        await runtime.event_log.append([Commit("c", "account-a", "account", 1, events, time, "c")])
        assert await Relay(runtime.event_log, runtime.publisher, runtime.control).relay_once()
    assert [(one.service, one.commits) for one in heard.of(signals.Relayed)] == [("bank", 1)]


def test_a_field_may_be_named_kind() -> None:
    told, heard = Signals("bank"), list[signals.Repaired]()
    told.listen(signals.Repaired, heard.append)
    told.emit(signals.Repaired, "owners", key="a", kind="missing", done=True)
    assert heard == [signals.Repaired("bank", "owners", "a", "missing", done=True)]


def test_who_has_stopped_listening_hears_nothing_and_costs_nothing() -> None:
    told, heard = Signals("bank"), list[Signal]()
    before = dict(told.wanted)
    stop = told.listen(Signal, heard.append)
    stop_another = told.listen(signals.WorkerStopped, heard.append)
    stop()
    stop()
    told.emit(signals.WorkerStarted, ["orders"])
    told.emit(signals.WorkerStopped, 0)
    assert heard == [signals.WorkerStopped("bank", 0)]
    stop_another()
    assert told.wanted == before


async def test_a_bus_returns_what_ends_the_listening() -> None:
    bus, heard = moving(), list[Signal]()
    stop = bus.listen(signals.CommandHandled, heard.append)
    async with bus:
        await bus.execute(Move())
        stop()
        await bus.execute(Move())
    assert len(heard) == 1


def test_a_kind_that_stands_for_several_is_each_of_them() -> None:
    told, heard = Signals("bank"), list[Signal]()
    listener: Callable[[signals.HandlerRun], None] = heard.append
    before = dict(told.wanted)
    told.listen(signals.HandlerRun, listener)
    assert {kind for kind, who in told.wanted.items() if who != before.get(kind)} == {
        signals.CommandHandled,
        signals.QueryAnswered,
        signals.EventHandled,
    }


def test_signals_are_small_and_stay_as_they_are() -> None:
    one = signals.Relayed("bank", commits=1, waiting=0, seconds=0.5)
    assert (one.name, hasattr(one, "__dict__")) == ("relayed", False)
    with pytest.raises(FrozenInstanceError):
        one.commits = 2  # type: ignore[misc]
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert not hasattr(signals.CommandHandled("", "", "", "", "", 1, 0.0, "done"), "__dict__")
