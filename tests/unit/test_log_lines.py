"""One happening is one line, and what is no failure is not told as one."""

import re
from collections import Counter
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus import (
    Bus,
    Reject,
    Retry,
    RetryPolicy,
    Router,
    Settings,
    StoreUnavailable,
    Worker,
)
from bus.codec import event_frames
from bus.common import clock
from bus.messages import Envelope
from bus.observe.logged import log_signal
from bus.observe.signals import Healed, Relayed, Signal
from bus.operate.projections import Projections
from bus.stores.event_log import Recorded
from bus.transports.base import Frame
from bus.transports.topology import COMMAND_TOPIC, event_topic
from tests.service.delivery_contract import store_and_publish
from tests.service.parcels import signed
from tests.service.wallet import Diary, GetWallet, Paid, Pay, build, payments
from tests.waiting import until

PAGE = (Path(__file__).parents[2] / "docs" / "log.md").read_text()

Lines = list[MutableMapping[str, Any]]


pytestmark = pytest.mark.usefixtures("every_level")


def told(lines: Lines) -> list[tuple[str, str]]:
    """What is told at the level of info and above, of handling."""
    return [
        (line["log_level"], line["event"])
        for line in lines
        if line["log_level"] != "debug" and not line["event"].startswith("worker_")
    ]


def promised() -> dict[str, list[tuple[str, str]]]:
    """The lines that docs/log.md promises, by what becomes of a message."""
    section = PAGE.partition("### One line for one happening\n")[2].partition("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return {what: re.findall(r"(\w+) `(\w+)`", lines) for what, lines in rows[2:]}


PROMISED = promised()
IN_A_WORKER = {
    "it is handled": "fails 0",
    "its handler asks for a later try (`Retry`), and succeeds then": "later",
    "it fails, and a try in place succeeds": "fails 1",
    "it fails, and the try after the first of two delays succeeds": "fails 2",
    "it fails, and the try after the last of two delays succeeds": "fails 3",
    "it fails at each try, with two delays": "fails 99",
    "its handler refuses it (`Reject`)": "rejects",
    "a service that its handler needs is away for a while": "away",
}
EXECUTED: dict[str, Exception] = {
    "it fails where it is executed, and its caller has the error": Reject("never"),
    "its handler asks for a later try where it is executed": Retry(delay=1),
}
PROJECTED = "a projection cannot apply it, and can after a release"


def troubled(done: list[str]) -> Router:
    """Handles what was paid, as the mood says, with two delays."""
    router = Router("troubled", retry=RetryPolicy(tries=2, pause=0.01, delays=(1, 1)))
    tries = Counter[str]()

    @router.event
    async def on_paid(event: Paid, envelope: Envelope) -> None:
        tries[envelope.id] += 1
        first = tries[envelope.id] == 1
        match event.mood.split():
            case ["fails", times] if tries[envelope.id] <= int(times):
                raise LookupError("no such ledger")
            case ["later"] if first:
                raise Retry(delay=0.5)
            case ["rejects"]:
                raise Reject("never")
            case ["away"] if first:
                raise StoreUnavailable("the other database is away")
        done.append(envelope.id)

    return router


def test_what_becomes_of_a_message_is_on_the_page_and_tried_here() -> None:
    assert PROMISED.keys() == {*IN_A_WORKER, *EXECUTED, PROJECTED}


@pytest.mark.parametrize("what", IN_A_WORKER)
async def test_what_becomes_of_a_message_in_a_worker_is_as_many_lines_as_the_page_says(
    what: str, unique: str
) -> None:
    done: list[str] = []
    with capture_logs() as lines:
        bus = Bus(unique, routers=[payments(), troubled(done)], settings=Settings.in_memory())
        async with bus, Worker(bus):
            await bus.execute(Pay(wallet_id="a", amount=1, mood=IN_A_WORKER[what]))
            letters = bus.runtime.control.dead_letters
            given_up = ("error", "gave_up") in PROMISED[what]
            await until(letters if given_up else lambda: done, "it is done with")
    assert told(lines) == PROMISED[what]


@pytest.mark.parametrize("what", EXECUTED)
async def test_what_fails_where_it_is_executed_is_as_many_lines_as_the_page_says(
    what: str, unique: str
) -> None:
    async def refuse(_envelope: Envelope, _following: Any) -> Any:
        raise EXECUTED[what]

    with capture_logs() as lines:
        async with build(Settings.in_memory(), Diary(), unique, middleware=[refuse]) as bus:
            with pytest.raises(type(EXECUTED[what])):
                await bus.execute(Pay(wallet_id="a", amount=1))
    assert told(lines) == PROMISED[what]


async def test_what_a_projection_cannot_apply_is_as_many_lines_as_the_page_says(
    unique: str,
) -> None:
    diary = Diary()
    with capture_logs() as lines:
        async with build(Settings.in_memory(), diary, unique) as bus:
            async with Worker(bus):
                await bus.execute(Pay(wallet_id="a", amount=1, mood="unprojectable"))
                await tried(bus, 1)
            diary.mended = True
            async with Worker(bus):
                await until(lambda: ("info", "stream_released") in told(lines), "it goes on")
    assert told(lines) == PROMISED[PROJECTED]


async def test_a_try_that_is_put_off_says_where_it_failed_and_whether_the_next_is_the_last(
    unique: str,
) -> None:
    with capture_logs() as lines:
        bus = Bus(unique, routers=[payments(), troubled([])], settings=Settings.in_memory())
        async with bus, Worker(bus):
            await bus.execute(Pay(wallet_id="a", amount=1, mood="fails 99"))
            await until(bus.runtime.control.dead_letters, "it is given up")
    retried = [line for line in lines if line["event"] == "retried"]
    assert [(line["log_level"], line["attempt"], line["is_last"]) for line in retried] == [
        ("debug", 1, False),
        ("info", 2, False),
        ("warning", 3, True),
    ]
    for line in retried[1:]:
        assert (line["error"], line["reason"]) == ("LookupError", "no such ledger")
        assert line["after"] == 1
        assert line["raised_in"][-1].startswith("test_log_lines.py:")
        assert line["raised_in"][-1].endswith(" on_paid")


async def test_a_command_that_fails_where_it_is_executed_is_one_line(unique: str) -> None:
    async def refuse(_envelope: Envelope, _following: Any) -> Any:
        raise Reject("not today")

    settings = Settings.in_memory()
    with capture_logs() as lines:
        async with build(settings, Diary(), unique, middleware=[refuse]) as bus:
            with pytest.raises(Reject):
                await bus.execute(Pay(wallet_id="a", amount=1))
            with pytest.raises(Reject):
                await bus.query(GetWallet(wallet_id="a"))
    assert told(lines) == [("info", "message_failed")] * 2


POISON = Recorded("Paid", 1, {"amount": "many"})
NEWER = Recorded("Paid", 9, {"amount": 1})


def of(lines: Lines, name: str) -> Lines:
    """The lines of a projection, or of a queue, at the level of info and above."""
    return [
        line
        for line in lines
        if line["log_level"] != "debug"
        and line["event"] != "worker_started"
        and (line.get("projection") == name or line.get("queue", "").endswith(f".{name}"))
    ]


async def tried(bus: Bus, times: int) -> None:
    """Waits until the one parked stream was tried so often."""
    (target,) = await bus.runtime.targets()

    async def so_often() -> bool:
        rows = await bus.runtime.control.parked(target)
        return [one.tries for one in rows] == [times]

    await until(so_often, f"{times} tries")


@pytest.mark.parametrize(
    ("level", "signal"),
    [
        ("debug", Relayed("bank", 0, waiting=20, seconds=0.1)),
        ("debug", Relayed("bank", 500, waiting=0, seconds=0.1, more=True)),
        ("info", Relayed("bank", 20, waiting=0, seconds=0.1)),
        ("debug", Healed("bank", "balances", events=1000, healed=99, duplicates=0, streams=9)),
        ("info", Healed("bank", "balances", events=1000, healed=50, duplicates=50, streams=9)),
    ],
)
def test_what_is_usual_is_for_debugging_and_what_is_worth_knowing_is_told(
    level: str, signal: Signal
) -> None:
    with capture_logs() as lines:
        log_signal(signal)
    assert [(line["log_level"], line["event"]) for line in lines] == [(level, signal.name)]


async def test_an_event_that_nobody_can_read_is_one_line_of_each_subscription(
    unique: str,
) -> None:
    with capture_logs() as lines:
        async with build(Settings.in_memory(), Diary(), unique) as bus:
            async with Worker(bus):
                await store_and_publish(bus, "wallet-a", POISON)
                await tried(bus, 2)
            async with Worker(bus):  # which tries it at once
                await tried(bus, 3)
                await Projections(bus).audit("wallets")
    parked, audited = of(lines, "wallets")
    assert (audited["event"], audited["log_level"]) == ("projection_audited", "info")
    assert (parked["event"], parked["log_level"]) == ("stream_parked", "error")
    assert parked["letter"] == "wallets__v1/wallet-a"
    assert (parked["stream"], parked["version"], parked["message"]) == ("wallet-a", 1, "Paid")
    assert "amount: Input should be a valid integer" in parked["reason"]
    (letter,) = of(lines, "thanking")
    assert (letter["event"], letter["log_level"]) == ("gave_up", "error")
    assert letter["letter"].startswith(f"{unique}.thanking/")
    assert (letter["stream"], letter["version"], letter["group"]) == (
        "wallet-a", 1, letter["group"],
    )  # fmt: skip
    assert "amount: Input should be a valid integer" in letter["reason"]


async def test_a_stream_that_fails_in_another_way_is_told_of_again(unique: str) -> None:
    diary = Diary()
    diary.mended = False
    with capture_logs() as lines:
        async with build(Settings.in_memory(), diary, unique) as bus, Worker(bus):
            mood = Recorded("Paid", 1, {"amount": 1, "mood": "unprojectable"})
            await store_and_publish(bus, "wallet-a", mood, POISON)
            await tried(bus, 1)
            diary.mended = True

            async def stands_at_the_second() -> bool:
                (target,) = await bus.runtime.targets()
                rows = await bus.runtime.control.parked(target)
                return [one.version for one in rows] == [2]

            await until(stands_at_the_second, "the first one is applied")
    assert [line["version"] for line in of(lines, "wallets")] == [1, 2]


async def test_an_event_of_a_release_to_come_is_one_line(unique: str) -> None:
    settings = Settings.in_memory().model_copy(update={"release_within": 60.0})
    with capture_logs() as lines:
        async with build(settings, Diary(), unique) as bus:
            for _ in range(2):
                async with Worker(bus, only=["wallets"]):
                    if not of(lines, "wallets"):
                        await store_and_publish(bus, "wallet-a", NEWER)
                    await tried(bus, 0)
    told_of = [(line["log_level"], line["event"]) for line in of(lines, "wallets")]
    assert told_of == [("warning", "stream_parked")]


async def test_a_torn_copy_of_an_event_of_the_log_is_one_line_and_no_letter(unique: str) -> None:
    with capture_logs() as lines:
        async with build(Settings.in_memory(), Diary(), unique) as bus:
            bus.runtime.publisher._open = False
            receipt = await bus.execute(Pay(wallet_id="a", amount=1))
            (commit,) = await bus.runtime.event_log.read("wallet-a")
            torn = signed(bus, event_frames(commit)[-1]._replace(body=b"{"))
            async with Worker(bus, only=["wallets"]):
                await bus.runtime.transport.publish([torn])
                await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=20)
                await until(lambda: of(lines, "wallets"), "a line")
            assert await bus.runtime.control.dead_letters() == []
    assert [(line["log_level"], line["event"]) for line in of(lines, "wallets")] == [
        ("warning", "read_from_log"),
    ]


@pytest.mark.parametrize("name", ["Pay", "Unheard"])
async def test_a_command_that_nobody_can_read_is_one_line(name: str, unique: str) -> None:
    settings = Settings.in_memory().model_copy(update={"release_within": 0.0})
    with capture_logs() as lines:
        async with build(settings, Diary(), unique) as bus, Worker(bus):
            body = b'{"wallet_id": 7}'
            frame = Frame(
                "commands", COMMAND_TOPIC, "c1", name, body, clock.now(), "c1", {"schema": 1}
            )
            await bus.runtime.transport.publish([frame], must_route=True)
            await until(bus.runtime.control.dead_letters, "it is a dead letter")
    (line,) = of(lines, "commands")
    assert (line["log_level"], line["event"], line["message"]) == ("error", "gave_up", name)


async def test_what_nobody_vouches_for_is_one_line(unique: str) -> None:
    headers: dict[str, str | int] = {"stream": "wallet-a", "version": 1, "schema": 1}
    topic = event_topic("wallet", "Paid", "wallet-a")
    forged = Frame("events", topic, "f:1", "Paid", b'{"amount": 1}', clock.now(), "f", headers)
    with capture_logs() as lines:
        async with (
            build(Settings.in_memory(), Diary(), unique) as bus,
            Worker(bus, only=["wallets"]),
        ):
            await bus.runtime.transport.publish([forged])
            await until(bus.runtime.control.dead_letters, "it is a dead letter")
    assert [(line["event"], line["error"]) for line in of(lines, "wallets")] == [
        ("gave_up", "NotInTheLog")
    ]
