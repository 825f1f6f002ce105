"""Every loop of a worker is hit at each of its awaits, and its work goes on.

Two services that follow each other run in memory, where each call of a store or of the transport
waits for a turn of the loop, so that it can be hit there.
"""

import asyncio
import inspect
import types
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from bus import Bus, ConfigurationError, NotBuilt, Settings, Worker
from bus.assembly.backend import Backend
from bus.common import clock
from bus.observe.loops import Loops
from bus.settings import MEMORY
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryCollections, MemoryControl, MemoryEventLog
from bus.stores.memory.effects import MemoryEffects
from bus.stores.memory.log import MemoryFollowedLog
from bus.transports.base import Frame
from bus.transports.memory.transport import MemoryBroker, MemoryTransport
from tests.service.following_contract import (
    GetCustomer,
    GetPurse,
    PlaceOrder,
    bank,
    payment,
    shop,
    store,
    tell,
)
from tests.unit.virtual_time import VirtualLoop, run_in_no_time

SHOP = "shop"
WITHIN = 120
"""Seconds of the loop's own time, within which everything has to be as it should be."""


class Turning:
    """Anything whose calls let others go first."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if inspect.isasyncgenfunction(found):
            return lambda *args, **named: self._each(found(*args, **named))
        if inspect.iscoroutinefunction(found):
            return lambda *args, **named: self._call(found, *args, **named)
        return found

    async def _call(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        await asyncio.sleep(0)
        found = await call(*args, **named)
        await asyncio.sleep(0)
        return Turning(found) if hasattr(found, "acknowledge") else found

    async def _each(self, items: Any) -> AsyncIterator[Any]:
        async for item in items:
            await asyncio.sleep(0)
            yield item


class TurningSettings(Settings):
    """Settings that bring what both services stand on."""

    _broker: MemoryBroker

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        log, collections = MemoryEventLog(), MemoryCollections()
        effects = MemoryEffects(log, collections, projected=projected, handled_for=60)
        transport = MemoryTransport(self._broker, service)
        return Backend(
            transport=cast(Any, Turning(transport)),
            event_log=cast(Any, Turning(log)),
            collections=cast(Any, Turning(collections)),
            control=cast(Any, Turning(MemoryControl())),
            effects=cast(Any, Turning(effects)),
            followed=cast(Any, Turning(MemoryFollowedLog())),
        )


Site = tuple[str, ...]
"""Where a task waits: the lines of ours that await one another, innermost last."""


class Blow:
    """Hits whoever waits at a site: the next time with one error, then with another. Notes all
    sites of named tasks."""

    def __init__(self, site: Site = (), *errors: BaseException) -> None:
        self.sites: dict[Site, str] = {}
        self.errors = list(errors)
        self._site = site

    def task(self, loop: asyncio.AbstractEventLoop, work: Any, **named: Any) -> "asyncio.Task[Any]":
        """The loop's task factory."""
        task = asyncio.Task(_awaited(self._hit(work)), loop=loop, **named)
        task.add_done_callback(lambda _: work.close())  # it was cancelled before it began, maybe
        return task

    @types.coroutine
    def _hit(self, running: Any) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: running.send(None)  # noqa: E731
        while True:
            try:
                waiting = step()
            except StopIteration as done:
                return done.value
            error = self._error_now(running)
            if error is not None:
                step = lambda error=error: running.throw(error)  # type: ignore[misc]  # noqa: E731
                continue
            try:
                yield waiting
            except BaseException as error:
                step = lambda error=error: running.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                step = lambda: running.send(None)  # noqa: E731

    def _error_now(self, running: Any) -> BaseException | None:
        task = asyncio.current_task()
        assert task is not None
        has_no_name = task.get_name().startswith(("Task-", "None"))  # "None": Python 3.13
        if has_no_name or (self._site and not self.errors):
            return None
        site = _site_of(running)
        self.sites.setdefault(site, task.get_name())
        return self.errors.pop(0) if site == self._site else None


def _site_of(running: Any) -> Site:
    lines: list[str] = []
    while running is not None:
        code = getattr(running, "cr_code", None) or getattr(running, "ag_code", None)
        frame = getattr(running, "cr_frame", None) or getattr(running, "ag_frame", None)
        if code is not None and frame is not None and "/bus/" in code.co_filename:
            lines.append(f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
        running = getattr(running, "cr_await", None) or getattr(running, "ag_await", None)
    return tuple(lines)


async def _awaited(work: Any) -> Any:
    return await work


@asynccontextmanager
async def running(broker: MemoryBroker) -> AsyncIterator[tuple[Bus, Bus]]:
    """The bank and the shop, each with its worker."""
    settings = TurningSettings(
        amqp_url=MEMORY,
        mongo_url=MEMORY,
        sweep_every=1.0,
        sentinel_every=1.0,
        gap_within=1.0,
    )
    settings._broker = broker
    owner, follower = bank(settings, "bank"), shop(settings, SHOP, "bank")
    async with owner, Worker(owner), follower, Worker(follower):
        yield owner, follower


async def work_is_done(owner: Bus, follower: Bus, broker: MemoryBroker, number: int) -> None:
    """All that only loops do: history told and asked for, swept, relayed, drained, reopened."""
    purse, order = f"p{number}", f"o{number}"
    lost = [payment(purse, version, version) for version in (1, 2, 3)]
    await store(owner, *lost)
    await tell(owner, lost[2:])
    await follower.send(PlaceOrder(order_id=order, purse_id=purse))
    await follower.runtime.event_log.append([_ordered(f"swept{number}", purse)])
    await follower.runtime.event_log.confirmed([f"swept{number}"])
    await follower.runtime.event_log.append([_ordered(f"relayed{number}", purse)])
    broker.queue(f"{SHOP}.dead").put(_given_up(number))
    broker.queue(f"{SHOP}.thanks").consumers.clear()

    async def done() -> list[str]:
        found = await follower.query(GetPurse(purse_id=purse))
        customer = await follower.query(GetCustomer(purse_id=purse))
        letters = await follower.runtime.control.dead_letters()
        waiting = await follower.runtime.event_log.pending(clock.now(), 10)
        missing = {
            "history": found is None or found.amounts != [1, 2, 3],
            "orders": customer is None or customer.orders != 3,
            "a dead letter": not any(one["message_id"] == f"dead{number}" for one in letters),
            "the relay": bool(waiting),
            "the sentinel": not broker.queue(f"{SHOP}.thanks").consumers,
        }
        return [what for what, is_missing in missing.items() if is_missing]

    for _ in range(WITHIN):
        await asyncio.sleep(1)
        try:
            missing = await done()
        except NotBuilt:
            missing = ["collections that are built"]
        if not missing:
            return
    raise AssertionError(f"the work does not go on: {', '.join(missing)} after {WITHIN} s")


def _ordered(id: str, purse: str) -> Commit:
    events = (Recorded("OrderPlaced", 1, {"purse_id": purse}),)
    return Commit(id, f"order-{id}", "order", 1, events, clock.now() - timedelta(seconds=20), "c")


def _given_up(number: int) -> Frame:
    id = f"dead{number}"
    return Frame("dead", f"{SHOP}.thanks", id, "Paid", b"{}", clock.now(), id)


@cache
def sites() -> dict[Site, str]:
    """Where the loops wait until all work is done twice, each with a loop that does."""
    blow = Blow()

    async def main(loop: VirtualLoop) -> None:
        loop.set_task_factory(cast(Any, blow.task))
        broker = MemoryBroker()
        async with running(broker) as (owner, follower):
            await work_is_done(owner, follower, broker, 1)
            await work_is_done(owner, follower, broker, 2)

    with capture_logs():
        run_in_no_time(main)
    return blow.sites


def strike(name: str, site: Site) -> None:
    """Runs everything with two blows at a site, and all work to be done after each."""
    refused = ConfigurationError("MongoDB does not allow it: Unauthorized (code 13)")
    blow = Blow(site, refused, asyncio.CancelledError())

    async def main(loop: VirtualLoop) -> None:
        loop.set_task_factory(cast(Any, blow.task))
        broker = MemoryBroker()
        async with running(broker) as (owner, follower):
            for number in range(1, 4):
                await work_is_done(owner, follower, broker, number)
                if not blow.errors:
                    break

    try:
        with capture_logs():  # traceback upon traceback, which nobody reads
            run_in_no_time(main)
    except Exception as failure:
        raise AssertionError(f"{name} hit at {' '.join(site)}: {failure}") from failure
    assert len(blow.errors) < 2, f"{name} never came to {' '.join(site)}"


LOOPS = {
    "relay",
    "following",
    "sentinel",
    "event loop",
    "projection purses",
    "purses__v1.sweep",
    "shop.purses",
}
SHARES = 4


def test_every_loop_is_known_and_waits_somewhere() -> None:
    names = {name.replace("customers", "purses") for name in sites().values()}
    assert names >= LOOPS, "these run by another name, or are no loops any more"


@pytest.mark.parametrize("share", range(SHARES))
def test_whatever_hits_a_loop_wherever_it_waits_its_work_goes_on(share: int) -> None:
    """An error that nobody foresaw, then a cancellation that nobody asked for."""
    for site, name in list(sites().items())[share::SHARES]:
        strike(name, site)
