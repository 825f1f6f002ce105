"""Middleware: what goes round every handler, refused where it cannot, named where it loses."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial, wraps
from typing import Any

import pytest

from bus import (
    GIVE_UP,
    Bus,
    Command,
    ConfigurationError,
    DeadLetters,
    Envelope,
    Next,
    Query,
    Router,
    Settings,
    Worker,
    timeout,
)
from tests.unit.accounts import Open, Opened, open_account
from tests.waiting import until


class Look(Command):
    """Records nothing."""


class Get(Query[int | None]):
    pass


def bank(*middleware: Any, seen: list[str] | None = None) -> Bus:
    router = Router("accounts", retry=GIVE_UP)

    router.command(open_account)

    @router.command
    async def look(command: Look) -> str:
        return "seen"

    @router.query
    async def get(query: Get) -> int | None:
        return 7

    @router.event
    async def opened(event: Opened) -> None:
        if seen is not None:
            seen.append(event.owner)

    settings = Settings.in_memory()
    return Bus("bank", routers=[router], settings=settings, middleware=list(middleware))


async def passing(envelope: Envelope, following: Next) -> Any:
    return await following(envelope)


class Passing:
    async def __call__(self, envelope: Envelope, following: Next) -> Any:
        return await following(envelope)

    async def method(self, envelope: Envelope, following: Next) -> Any:
        return await following(envelope)


class PassingByPlainCall:
    def __call__(self, envelope: Envelope, following: Next) -> Any:
        return following(envelope)


async def with_more(label: str, envelope: Envelope, following: Next, *, loud: bool = False) -> Any:
    return await following(envelope)


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def wrapper(*values: Any, **named: Any) -> Any:
        return await function(*values, **named)

    return wrapper


async def choosing(envelope: Envelope, following: Next) -> Any:
    return (await following(envelope)) or None


async def refusing(envelope: Envelope, following: Next) -> Any:
    raise PermissionError(envelope.name)


async def within(envelope: Envelope, following: Next) -> Any:
    @asynccontextmanager
    async def noted() -> Any:
        yield

    async with noted():
        return await following(envelope)


@pytest.mark.parametrize(
    "middleware",
    [
        passing,
        Passing(),
        Passing().method,
        partial(with_more, "x"),
        decorated(passing),
        choosing,
        within,
        timeout(5),
        timeout(timedelta(seconds=5)),
    ],
)
async def test_an_async_callable_of_two_parameters_is_taken(middleware: Any) -> None:
    async with bank(middleware) as bus:
        assert (await bus.execute(Open(account_id="a"))).versions == {"account-a": 1}
        assert await bus.query(Get()) == 7


def test_a_middleware_that_refuses_all_is_taken() -> None:
    bank(refusing)


async def of_one(envelope: Envelope) -> None: ...
async def of_three(envelope: Envelope, following: Next, more: int) -> Any:
    return await following(envelope)


async def by_name(envelope: Envelope, following: Next, *, more: int) -> Any:
    return await following(envelope)


async def forgetting(envelope: Envelope, following: Next) -> None:
    await following(envelope)


async def forgetting_in_a_try(envelope: Envelope, following: Next) -> None:
    try:
        if envelope.name == "Get":
            return
        await following(envelope)
    finally:
        print("done")


class Forgetting:
    async def __call__(self, envelope: Envelope, following: Next) -> None:
        await following(envelope)


async def yielding(envelope: Envelope, following: Next) -> Any:
    yield await following(envelope)


def plain(envelope: Envelope, following: Next) -> Any:
    return following(envelope)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Passing, "Passing.*is a class.*give an object of it"),
        (None, "holds something of type NoneType"),
        ("passing", "holds something of type str"),
        (of_one, r"of_one.*takes \(envelope.*two"),
        (of_three, r"of_three.*takes \(envelope.*two"),
        (by_name, r"by_name.*takes \(envelope.*two"),
        (timeout, r"timeout.*call it first.*timeout\(10\)"),
        (plain, "plain.*is not async.*async def"),
        (PassingByPlainCall(), "PassingByPlainCall.*is not async"),
        (yielding, "yielding.*is not async|yielding.*yields"),
        (forgetting, "forgetting.*returns nothing.*return await following"),
        (forgetting_in_a_try, "forgetting_in_a_try.*returns nothing"),
        (Forgetting(), "Forgetting.*returns nothing"),
        (Forgetting().__call__, "Forgetting.*returns nothing"),
        (partial(forgetting), "forgetting.*returns nothing"),
    ],
)
def test_what_cannot_go_round_a_handler_is_refused(wrong: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Bus\('bank'\): middleware=.*{told}"):
        bank(passing, wrong)


@pytest.mark.parametrize("wrong", [passing, Passing(), timeout(5), None, 5])
def test_middleware_that_is_no_list_is_refused(wrong: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"Bus\('bank'\): middleware= is of type .*; write it as in middleware=",
    ):
        Bus("bank", settings=Settings.in_memory(), middleware=wrong)


@pytest.mark.parametrize("given", ["1", 0, -1, None, True, float("nan")], ids=repr)
def test_a_timeout_of_no_time_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"timeout\(\): seconds=.*give seconds"):
        timeout(given)


async def losing(envelope: Envelope, following: Next) -> Any:
    if (result := await following(envelope)) and envelope.name == "never":
        return result
    return None


async def not_awaiting(envelope: Envelope, following: Next) -> Any:
    return following(envelope)


async def short(envelope: Envelope, following: Next) -> Any:
    return "cached"


@pytest.mark.parametrize(
    "middleware", [[losing], [passing, losing], [losing, passing], [passing, losing, losing]]
)
async def test_a_middleware_that_loses_a_receipt_is_named(middleware: list[Any]) -> None:
    async with bank(*middleware) as bus:
        with pytest.raises(ConfigurationError, match=r"losing returned None.*Receipt") as lost:
            await bus.execute(Open(account_id="a"))
        assert "return await following(envelope)" in str(lost.value)
        assert "was carried out, and what it did is stored" in str(lost.value)
        commits = await bus.runtime.event_log.read("account-a")
        assert commits[0].id in str(lost.value)
        with pytest.raises(ConfigurationError, match=r"losing returned None.*nothing is stored"):
            await bus.execute(Look())
        # What stands under an id is known all the same.
        receipt = await bus.execute(Open(account_id="b"), id="order-7")
        assert receipt.versions == {"account-b": 1}


@pytest.mark.parametrize("middleware", [[not_awaiting], [passing, not_awaiting, passing]])
async def test_a_middleware_that_does_not_await_is_named(middleware: list[Any]) -> None:
    async with bank(*middleware) as bus:
        with pytest.raises(ConfigurationError, match=r"not_awaiting returned a coroutine") as lost:
            await bus.execute(Open(account_id="a"))
        assert "nothing is stored" in str(lost.value)
        assert "return await following(envelope)" in str(lost.value)
        with pytest.raises(ConfigurationError, match=r"not_awaiting returned a coroutine"):
            await bus.query(Get())
        assert await bus.runtime.event_log.read("account-a") == []


async def test_a_middleware_that_answers_for_a_command_is_named() -> None:
    async with bank(short) as bus:
        with pytest.raises(ConfigurationError, match=r"short returned 'cached'.*nothing is stored"):
            await bus.execute(Open(account_id="a"))
        assert await bus.query(Get()) == "cached"  # type: ignore[comparison-overlap]


async def in_a_task(envelope: Envelope, following: Next) -> Any:
    return asyncio.ensure_future(following(envelope))


async def in_a_task_that_has_begun(envelope: Envelope, following: Next) -> Any:
    task = asyncio.ensure_future(following(envelope))
    await asyncio.sleep(0)
    return task


async def shielded(envelope: Envelope, following: Next) -> Any:
    return asyncio.shield(following(envelope))


async def gathered(envelope: Envelope, following: Next) -> Any:
    return asyncio.gather(following(envelope))


class Later:
    def __init__(self, work: Awaitable[Any]) -> None:
        self.work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.work.__await__()


async def later(envelope: Envelope, following: Next) -> Any:
    return Later(following(envelope))


async def using(envelope: Envelope, following: Next) -> Any:
    """As one that counts what commands wrote, and answers in its own way for all else."""
    result = await following(envelope)
    if envelope.name == "Open":
        assert result.versions
        return result
    return True if envelope.name == "Opened" else result


UNAWAITED = [
    (not_awaiting, "not_awaiting returned a coroutine"),
    (in_a_task, "in_a_task returned a Task"),
    (in_a_task_that_has_begun, "in_a_task_that_has_begun returned a Task"),
    (shielded, "shielded returned a Future"),
    (gathered, "gathered returned a _GatheringFuture"),
    (later, "later returned a Later"),
]


@pytest.mark.parametrize(("middleware", "told"), UNAWAITED)
@pytest.mark.parametrize("others", [[], [using], [using, passing]])
async def test_what_is_told_of_a_command_that_is_not_awaited_is_true(
    middleware: Any, told: str, others: list[Any]
) -> None:
    """Nothing of it goes on by then."""
    async with bank(*others, middleware, passing) as bus:
        with pytest.raises(ConfigurationError, match=told) as lost:
            await bus.execute(Open(account_id="a"))
        stored = await bus.runtime.event_log.read("account-a")
        assert ("what it did is stored" in str(lost.value)) == bool(stored)
        assert ("nothing is stored" in str(lost.value)) != bool(stored)
        with pytest.raises(ConfigurationError, match=told):
            await bus.query(Get())
        for _ in range(20):
            await asyncio.sleep(0)
        assert await bus.runtime.event_log.read("account-a") == stored


async def test_what_is_waited_for_ends_with_who_waits() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    router = Router("slow")

    @router.command
    async def look(command: Look) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    middleware = [in_a_task_that_has_begun]
    async with Bus(
        "b", routers=[router], settings=Settings.in_memory(), middleware=middleware
    ) as bus:
        asking = asyncio.create_task(bus.execute(Look()))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert ended.is_set()


async def test_of_a_handler_that_does_not_await_no_middleware_is_blamed() -> None:
    router = Router("slow")

    @router.query
    async def get(query: Get) -> Any:
        return asyncio.sleep(0, 7)

    bus = Bus("b", routers=[router], settings=Settings.in_memory(), middleware=[passing])
    async with bus:
        with pytest.raises(ConfigurationError, match=r"get returned a coroutine.*for Get .*await"):
            await bus.query(Get())


@pytest.mark.parametrize(("middleware", "told"), UNAWAITED)
@pytest.mark.parametrize("others", [[], [using], [using, passing]])
async def test_an_event_that_is_not_awaited_is_not_taken_for_handled(
    middleware: Any, told: str, others: list[Any]
) -> None:
    async def of_events(envelope: Envelope, following: Next) -> Any:
        if envelope.name != "Opened":
            return await following(envelope)
        return await middleware(envelope, following)

    bus = bank(*others, of_events, passing)
    async with bus, Worker(bus):
        await bus.execute(Open(account_id="a"))
        await until(bus.runtime.control.dead_letters, "it is a dead letter", within=5)
        (letter,) = await DeadLetters(bus).list()
        assert told.partition(" ")[2] in letter.reason
        assert "of_events" in letter.reason


async def test_an_event_whose_handler_did_not_run_is_not_taken_for_handled() -> None:
    seen: list[str] = []

    async def not_awaiting_events(envelope: Envelope, following: Next) -> Any:
        if envelope.name == "Opened":
            return following(envelope)
        return await following(envelope)

    bus = bank(not_awaiting_events, seen=seen)
    async with bus, Worker(bus):
        await bus.execute(Open(account_id="a"))
        letters = bus.runtime.control.dead_letters
        await until(letters, "it is a dead letter", within=5)
    assert seen == []
