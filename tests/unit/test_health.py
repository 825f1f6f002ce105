"""What the report says, whatever the parts do."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from bus import (
    Bus,
    ConfigurationError,
    Health,
    Projection,
    Settings,
    StoreUnavailable,
    TransportUnavailable,
    Worker,
)
from bus.common import clock
from bus.lifecycle.loop_watch import LoopWatch
from bus.observe.health import Breaks, Check, Checkup
from bus.observe.health_server import HealthServer
from bus.observe.listeners import NoPage
from bus.stores.control import Parked
from tests.service.wallet import Diary, Pay, build
from tests.unit.virtual_time import stand
from tests.waiting import until
from tools.services.ports import LOOPBACK, free_ports


def answering(part: str, what: str | None, breaks: Breaks = "nothing") -> Check:
    async def ask() -> str | None:
        return what

    return Check(part, ask, breaks)


def failing(part: str, error: BaseException) -> Check:
    async def ask() -> str | None:
        raise error

    return Check(part, ask)


async def test_without_problems_it_is_alive_and_ready() -> None:
    assert await Checkup([answering("broker", None)]).health() == Health(True, True)


@pytest.mark.parametrize(
    ("breaks", "alive", "ready"),
    [("nothing", True, True), ("ready", True, False), ("alive", False, False)],
)
async def test_a_problem_breaks_what_it_says(breaks: Breaks, alive: bool, ready: bool) -> None:
    checkup = Checkup([answering("part", "is broken", breaks), answering("other", None)])
    health = await checkup.health()
    assert (health.alive, health.ready) == (alive, ready)
    assert str(health.problems[0]) == "part: is broken (for 0 s)"


async def test_a_question_that_fails_is_a_problem_and_not_an_error() -> None:
    checkup = Checkup(
        [
            failing("store", StoreUnavailable("no server")),
            failing("code", KeyError("x")),
            failing("stray", asyncio.CancelledError()),
            answering("fine", None),
        ]
    )
    found = {problem.part: problem.what for problem in (await checkup.health()).problems}
    assert found == {
        "store": "no server",
        "code": "KeyError: 'x'",
        "stray": "the question was cut off",
    }


async def test_questions_run_together_and_one_without_an_answer_is_not_asked_again() -> None:
    asked = 0
    answer = asyncio.Event()

    async def hang() -> str | None:
        nonlocal asked
        asked += 1
        await answer.wait()
        return None

    checkup = Checkup([Check("a", hang, "ready"), Check("b", hang)], patience=0.05, gone=0.05)
    async with asyncio.timeout(30):
        reports = [await checkup.health() for _ in range(20)]
    assert asked == 2
    assert all(p.what.startswith("no answer for ") for p in reports[-1].problems)
    assert reports[-1].problems[0].seconds >= 0.1
    answer.set()
    assert await checkup.health() == Health(True, True)
    await checkup.health()
    assert asked == 4


class Answering:
    """Answers after `seconds`, with `what`."""

    def __init__(self, seconds: float = 0.0, what: str | None = None) -> None:
        self.seconds = seconds
        self.what = what
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        return self.what


async def test_a_slow_answer_is_no_problem_and_one_that_never_comes_is_soon() -> None:
    part = Answering()
    checkup = Checkup([Check("database", part, "ready")])
    assert (await checkup.health()).ready
    part.seconds = 2.5
    for _ in range(3):
        began = time.monotonic()
        assert await checkup.health() == Health(True, True)
        assert time.monotonic() - began < 1.01
    part.seconds = 3600
    await asyncio.sleep(5)
    reports = [await checkup.health() for _ in range(4)]
    assert [report.ready for report in reports] == [True, True, False, False]
    assert reports[-1].problems[0].what == "no answer for 4.0 s"
    assert part.asked <= 4


async def test_what_was_wrong_stays_so_until_it_is_answered_otherwise() -> None:
    part = Answering(what="MongoDB takes no writes")
    checkup = Checkup([Check("database", part, "ready")])
    assert not (await checkup.health()).ready
    part.seconds, part.what = 2.5, None
    reports = [await checkup.health() for _ in range(3)]
    assert [report.ready for report in reports] == [False, False, True]


async def test_of_a_part_that_was_never_heard_of_a_call_waits_for_longer() -> None:
    slow, gone = Answering(2.5), Answering(3600)
    assert await Checkup([Check("database", slow, "ready")]).health() == Health(True, True)
    checkup = Checkup([Check("database", gone, "ready")])
    began = time.monotonic()
    assert not (await checkup.health()).ready
    assert time.monotonic() - began == pytest.approx(3.0)
    await checkup.close()


async def test_a_process_that_was_late_itself_does_not_blame_the_others_at_once() -> None:
    loop = asyncio.get_running_loop()
    part = Answering()
    checkup = Checkup([Check("database", part, "ready")])
    await checkup.health()
    part.seconds = 3600
    for number in range(100):
        loop.call_later(number * 0.5, stand, 0.3)
    began, ready = time.monotonic(), True
    while ready:
        health = await checkup.health()
        ready = health.ready
    assert 10 < time.monotonic() - began < 13
    assert "; this process itself was late by " in health.problems[0].what
    await checkup.close()


async def test_a_loop_that_stood_while_it_waited_takes_in_first_what_came_meanwhile() -> None:
    loop = asyncio.get_running_loop()
    part = Answering(0.5)
    checkup = Checkup([Check("database", part, "ready")], gone=1.0)
    loop.call_later(0.1, stand, 30.0)
    assert await checkup.health() == Health(True, True)


async def test_a_problem_that_comes_back_begins_anew() -> None:
    what: str | None = "gone"

    async def ask() -> str | None:
        return what

    checkup = Checkup([Check("part", ask)])
    await checkup.health()
    await asyncio.sleep(1)
    (old,) = (await checkup.health()).problems
    assert old.seconds == 1
    what = None
    await checkup.health()
    what = "gone again"
    (new,) = (await checkup.health()).problems
    assert new.seconds == 0


async def test_asking_whether_it_is_alive_asks_nothing_else() -> None:
    checkup = Checkup([failing("outside", AssertionError()), answering("in", "stuck", "alive")])
    assert [problem.part for problem in (await checkup.alive()).problems] == ["in"]


async def test_closing_gives_up_what_is_unanswered() -> None:
    checkup = Checkup([Check("a", asyncio.Event().wait)], patience=0.01)  # type: ignore[arg-type]
    await checkup.health()
    await checkup.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- what a bus asks


@pytest.fixture
async def bus(unique: str) -> AsyncIterator[Bus]:
    async with build(Settings.in_memory(), Diary(), unique) as bus:
        yield bus


async def test_a_bus_by_itself_is_well(bus: Bus) -> None:
    assert await bus.health() == Health(True, True)
    assert await bus.alive()


async def test_a_broker_that_is_away_is_told_and_breaks_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = TransportUnavailable("RabbitMQ: the connection was lost")

    async def publish(frames: list[object], **_: object) -> dict[str, Exception]:
        return {frame.id: away for frame in frames}  # type: ignore[attr-defined]

    monkeypatch.setattr(bus.runtime.transport, "publish", publish)
    health = await bus.health()
    assert (health.alive, health.ready) == (True, True)
    assert [(p.part, p.what) for p in health.problems] == [("broker", str(away))]


async def test_a_database_that_is_away_is_told_once_and_it_is_not_ready(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("no server")

    for store, call in [
        (bus.runtime.event_log, "read"),
        (bus.runtime.event_log, "pending"),
        (bus.runtime.control, "parked"),
    ]:
        monkeypatch.setattr(store, call, away)
    health = await bus.health()
    assert (health.alive, health.ready) == (True, False)
    assert [(p.part, p.what) for p in health.problems] == [("database", "no server")]


@pytest.mark.parametrize("call", ["confirmed", "lease"])
async def test_a_database_that_takes_no_writes_is_not_ready(
    bus: Bus, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def blocked(*_: object, **__: object) -> None:
        raise StoreUnavailable("MongoDB: UserWritesBlocked (code 371)")

    assert (await bus.health()).ready
    store = bus.runtime.event_log if call == "confirmed" else bus.runtime.control
    monkeypatch.setattr(store, call, blocked)
    health = await bus.health()
    assert (health.alive, health.ready) == (True, False)
    assert [(p.part, p.what) for p in health.problems] == [
        ("database", "MongoDB: UserWritesBlocked (code 371)")
    ]


async def test_what_waits_too_long_for_the_relay_or_for_a_projection_is_told(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus.runtime.publisher, "offer", lambda *_: None)
    await bus.execute(Pay(wallet_id="a", amount=1))
    assert await bus.health() == Health(True, True)
    (commit,) = await bus.runtime.event_log.read("wallet-a")
    later = commit.time.timestamp() + 40
    monkeypatch.setattr("bus.common.clock.source.seconds", lambda: later)
    health = await bus.health()
    assert health.ready
    assert [(p.part, p.what) for p in health.problems] == [
        ("relay", "the oldest unpublished commit is 40 s old"),
        ("projection wallets", "events not applied: 1, for 40 s"),
    ]


async def test_parked_streams_are_told_and_break_nothing(bus: Bus) -> None:
    (target,) = (s.of.target() for s in bus.runtime.subscriptions if isinstance(s.of, Projection))
    for stream in ("wallet-a", "wallet-b", "wallet-c", "wallet-d"):
        parked = Parked(stream, 1, "ValueError", 1, clock.now(), "Paid", "secret")
        await bus.runtime.control.park(target, parked)
    health = await bus.health()
    assert health.ready
    assert [(p.part, p.what) for p in health.problems] == [
        (
            "projection wallets",
            "streams parked: 4; wallets__v1/wallet-a at version 1, Paid: ValueError; "
            "wallets__v1/wallet-b at version 1, Paid: ValueError; "
            "wallets__v1/wallet-c at version 1, Paid: ValueError; and 1 more",
        )
    ]


# -- the event loop


async def test_a_loop_that_was_blocked_is_told_for_a_while() -> None:
    watch = LoopWatch(late=0.2)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    assert await Checkup([watch.check]).health() == Health(True, True)
    stand(0.6)
    await until(watch.check.ask, "the delay is noticed")
    watching.cancel()
    health = await Checkup([watch.check]).health()
    assert health.ready
    assert health.problems[0].what.startswith("something blocked it for 0.")


# -- over HTTP


async def asked(port: int, request: bytes) -> tuple[int, bytes]:
    """The status and the body that the server answers; 0 where it only closes."""
    head, _, body = (await answered(port, request)).partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


async def answered(port: int, request: bytes) -> bytes:
    """All that the server answers."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(request)
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.real_time
async def test_a_worker_answers_two_pages_and_nothing_else() -> None:
    checkup = Checkup([answering("database", "away", "ready")])
    (port,) = free_ports(1)
    server = HealthServer(checkup, LOOPBACK, port)
    await server.start()
    try:
        status, body = await asked(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, json.loads(body)) == (503, (await checkup.health()).as_json())
        status, body = await asked(port, b"GET /livez?x=1 HTTP/1.0\r\n\r\n")
        assert (status, json.loads(body)) == (200, {"alive": True, "problems": []})
        assert await asked(port, b"HEAD /readyz HTTP/1.1\r\n\r\n") == (503, b"")
        assert await asked(port, b"GET / HTTP/1.1\r\n\r\n") == (404, b"")
        assert await asked(port, b"POST /readyz HTTP/1.1\r\n\r\n") == (405, b"")
        assert await asked(port, b"what?\r\n\r\n") == (405, b"")
        assert (await asked(port, b"GET /" + b"x" * 100_000))[0] == 0
    finally:
        await server.close()


@pytest.mark.real_time
async def test_what_listeners_show_is_answered_beside_health_and_costs_itself_alone() -> None:
    bus = Bus("bank", settings=Settings.in_memory(health_port=free_ports(1)[0]))
    port, broken = bus.runtime.settings.health_port, True

    async def prices(accept: str) -> tuple[str, bytes]:
        return f"text/plain; for={accept}", b"oil 1"

    async def fails(accept: str) -> tuple[str, bytes]:
        if broken:
            raise RuntimeError("no")
        return "text/plain", b"mended"

    async def lacks(accept: str) -> tuple[str, bytes]:
        raise NoPage("install it")

    with capture_logs() as lines:
        async with bus, Worker(bus):
            assert await asked(port, b"GET /prices HTTP/1.1\r\n\r\n") == (404, b"")
            bus._signals.pages |= {"/prices": prices, "/fails": fails, "/lacks": lacks}
            assert await asked(port, b"HEAD /prices HTTP/1.1\r\n\r\n") == (200, b"")
            request = b"GET /prices?x=1 HTTP/1.1\r\nHost: x\r\nACCEPT: text/y \r\n\r\n"
            assert await asked(port, request) == (200, b"oil 1")
            assert b"\r\nContent-Type: text/plain; for=text/y\r\n" in await answered(port, request)
            for _ in range(2):
                assert await asked(port, b"GET /fails HTTP/1.1\r\n\r\n") == (500, b"")
            assert (await asked(port, b"GET /livez HTTP/1.1\r\n\r\n"))[0] == 200
            assert await asked(port, b"GET /lacks HTTP/1.1\r\n\r\n") == (404, b"install it\n")
            broken = False
            assert await asked(port, b"GET /fails HTTP/1.1\r\n\r\n") == (200, b"mended")
    assert [line["page"] for line in lines if line["event"] == "page_failed"] == ["/fails"]


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("host", "words"),
    [
        (LOOPBACK, "something listens there, another worker, a relay or another program; "
                   "give each process a BUS_HEALTH_PORT of its own"),
        ("192.0.2.1", "; set BUS_HEALTH_HOST to an address of this machine"),
    ],
)  # fmt: skip
async def test_an_address_that_cannot_be_had_is_told_with_what_to_do(host: str, words: str) -> None:
    (port,) = free_ports(1)
    first = HealthServer(Checkup([]), LOOPBACK, port)
    await first.start()
    try:
        with pytest.raises(ConfigurationError, match=re.escape(words)) as refused:
            await HealthServer(Checkup([]), host, port).start()
        assert str(refused.value).startswith(f"cannot answer at {host}:{port}: ")
        assert "error while attempting" not in str(refused.value)
    finally:
        await first.close()


@pytest.mark.real_time
async def test_a_client_that_says_nothing_does_not_keep_the_server_from_closing() -> None:
    (port,) = free_ports(1)
    server = HealthServer(Checkup([]), LOOPBACK, port)
    await server.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    assert (await asked(port, b"GET /livez HTTP/1.1\r\n\r\n"))[0] == 200
    async with asyncio.timeout(30):
        await server.close()
        assert await reader.read() == b""
    writer.close()
