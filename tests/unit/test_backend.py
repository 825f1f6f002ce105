"""A bus stands on the backend that it is given, and on what its settings ask for without one."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import Any, cast

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Backend,
    Bus,
    Command,
    ConfigurationError,
    Envelope,
    Projection,
    Router,
    Settings,
    default_backend,
)
from bus.assembly.backend import MakeBackend
from bus.observe.loops import Loops
from bus.stores.collections import Target
from bus.stores.event_log import EventLog
from bus.stores.memory import MemoryCollections, MemoryControl
from bus.transports.base import Frame, Transport


class Ring(Command):
    bell: str


class Counting:
    """A transport of one's own: that in memory, which counts what is sent."""

    def __init__(self, inner: Transport, sent: list[str]) -> None:
        self._inner = inner
        self._sent = sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def publish(self, frames: Sequence[Frame], **options: Any) -> dict[str, Exception]:
        self._sent += [frame.name for frame in frames]
        return await self._inner.publish(frames, **options)


class Bell(Aggregate):
    pass


class BellView(BaseModel):
    rings: int = 0


usual = default_backend(Settings.in_memory())


class Both(MemoryCollections, MemoryControl):
    """One object in two places."""

    def __init__(self) -> None:
        MemoryCollections.__init__(self)
        MemoryControl.__init__(self)
        self.calls: list[str] = []

    async def open(self, *, makes: bool = True) -> None:
        self.calls.append("open")

    async def close(self) -> None:
        self.calls.append("close")

    async def drop(self, target: Target) -> None:
        await MemoryCollections.drop(self, target)
        await MemoryControl.drop(self, target)


def rung() -> Projection[BellView]:
    return Projection("rung", of=[Bell], view=BellView)


def bells() -> Router:
    router = Router("bells")

    @router.command
    async def ring(command: Ring) -> None:
        pass

    return router


async def test_a_transport_of_ones_own_takes_the_place_of_one_part() -> None:
    settings = Settings.in_memory()
    usual = default_backend(settings)
    sent: list[str] = []
    asked: list[tuple[str, Sequence[str]]] = []

    def backend(service: str, projected: Sequence[str], loops: Loops) -> Backend:
        asked.append((service, projected))
        found = usual(service, projected, loops)
        return replace(found, transport=cast(Transport, Counting(found.transport, sent)))

    bus = Bus("bells", routers=[bells()], settings=settings, backend=backend)
    async with bus:
        await bus.send(Ring(bell="small"))
    assert sent == ["Ring"]
    assert asked == [("bells", [])]
    async with bus:  # each opening asks for one of its own
        assert len(asked) == 2


async def test_one_object_that_is_collections_and_control_is_opened_and_closed_once() -> None:
    both = Both()
    async with bus_with(collections=both, control=both):
        assert both.calls == ["open"]
    assert both.calls == ["open", "close"]


async def test_what_is_in_memory_is_made_once() -> None:
    bus = Bus("bells", routers=[bells()], settings=Settings.in_memory())
    async with bus:
        log = bus.runtime.event_log
    async with bus:
        assert bus.runtime.event_log is log


async def test_what_is_in_memory_is_made_once_for_a_service_whatever_it_projects() -> None:
    settings = Settings.in_memory()
    shared = default_backend(settings)
    logs, stores, projected = set(), set(), []
    for projections in ([], [rung()]):
        routers = [bells()]
        bus = Bus(
            "bells", routers=routers, projections=projections, settings=settings, backend=shared
        )
        async with bus:
            logs.add(bus.runtime.event_log)
            stores.add(bus.runtime.control)
            projected.append(cast(Any, bus.runtime.effects)._projected)
    other = shared("others", [], Loops())
    assert (len(logs), len(stores), projected) == (1, 1, [[], ["rung"]])
    assert other.event_log not in logs


def test_threads_that_ask_at_once_share_what_is_in_memory() -> None:
    for _ in range(20):
        shared, together = default_backend(Settings.in_memory()), Barrier(4)

        def ask(
            _: int, make: MakeBackend = shared, wait: Callable[[], int] = together.wait
        ) -> EventLog:
            wait()
            return make("bells", [], Loops()).event_log

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(ask, range(4)))) == 1


@pytest.mark.parametrize("given", ["memory", 1, cast(Any, Backend).__new__(Backend)])
def test_what_makes_no_backend_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Bus\('bells'\): backend= is of type \w+; give"):
        Bus("bells", settings=Settings.in_memory(), backend=given)


def one_short(service: str, projected: Sequence[str]) -> Any: ...


def by_name(*, service: str, projected: Sequence[str], loops: Loops) -> Any: ...


async def awaited(service: str, projected: Sequence[str], loops: Loops) -> Any: ...


class Awaited:
    async def __call__(self, service: str, projected: Sequence[str], loops: Loops) -> Any: ...


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (
            one_short,
            r"takes \(service: str, .*, and is called with three, by position; write it so",
        ),
        (by_name, r"takes \(\*, service: str, .*, and is called with three"),
        (Backend, r"is the class Backend; give a function that makes one for each opening"),
        (awaited, r"is async, and nobody would await it .*; write a plain `def`"),
        (Awaited(), r"is async, and nobody would await it .*; write a plain `def`"),
    ],
)
def test_what_cannot_be_called_for_a_backend_is_refused(given: Any, remedy: str) -> None:
    written = r".*[:,] def backend\(service, projected, loops\): return Backend\(...\)$"
    with pytest.raises(ConfigurationError, match=r"Bus\('bells'\): backend= " + remedy + written):
        Bus("bells", settings=Settings.in_memory(), backend=given)


@pytest.mark.parametrize("make", [lambda *given: usual(*given), partial(usual)])
def test_whatever_takes_three_by_position_may_make_a_backend(make: Any) -> None:
    Bus("bells", settings=Settings.in_memory(), backend=make)


def test_the_function_that_makes_the_default_is_called_first() -> None:
    with pytest.raises(ConfigurationError, match=r"call it first, as in default_backend\(settings"):
        Bus("bells", settings=Settings.in_memory(), backend=cast(Any, default_backend))
    for given in (None, "amqp://", Settings):
        with pytest.raises(ConfigurationError, match=r"write it as in default_backend\(Settings\("):
            default_backend(cast(Any, given))


async def late() -> Any: ...


@pytest.mark.parametrize(
    ("made", "what"), [(None, "None"), ((1, 2), "a tuple"), (1, "an int")], ids=repr
)
def test_what_is_made_is_a_backend(made: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Bus\('bells'\): its backend is {what}; let"):
        Bus("bells", settings=Settings.in_memory(), backend=lambda *given: made)


def test_a_coroutine_is_no_backend_and_leaves_no_warning() -> None:
    with pytest.raises(
        ConfigurationError, match="its backend is a coroutine; let what makes it return"
    ):
        Bus("bells", settings=Settings.in_memory(), backend=lambda *given: cast(Any, late()))


@pytest.mark.parametrize("part", ["transport", "event_log", "collections", "control", "effects"])
def test_a_backend_has_all_its_parts(part: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Bus\('bells'\): its backend: {part}=None: "):
        bus_with(**{part: None})


def not_awaited() -> None: ...


@pytest.mark.parametrize("given", [None, not_awaited], ids=["None", "function"])
def test_a_backend_is_disconnected_by_an_async_function(given: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"its backend: disconnect=.* is not an async function"
    ):
        bus_with(disconnect=given)


class Disconnecting:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "given",
    [Disconnecting(), Disconnecting().__call__, partial(late)],
    ids=["object", "method", "partial"],
)
def test_whatever_can_be_awaited_disconnects(given: Any) -> None:
    bus_with(disconnect=given)


async def counts(envelope: Envelope, following: Any) -> Any:
    await following(envelope)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (None, r"middleware= is of type NoneType; write it as in middleware=\[timed\]"),
        ([3], r"middleware= holds something of type int; write it as in middleware=\[timed\]"),
        ([counts], r"middleware=\[.*counts\]: it returns nothing, .* write `return"),
        ([Counting], r"middleware=\[.*Counting\]: it is a class"),
    ],
)
def test_the_middleware_of_a_backend_is_looked_at_as_a_bus_is(given: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Bus\('bells'\): its backend: " + remedy):
        bus_with(middleware=given)


def bus_with(**parts: Any) -> Bus:
    settings = Settings.in_memory()
    return Bus("bells", settings=settings, backend=lambda *given: replace(usual(*given), **parts))


def test_a_client_is_for_the_default_backend() -> None:
    settings = Settings.in_memory()
    with pytest.raises(ConfigurationError, match=r"default_backend\(settings, client\)"):
        Bus("bells", settings=settings, backend=default_backend(settings), client=object())


async def test_the_former_name_of_runtime_is_kept_with_a_warning() -> None:
    async with Bus("bells", settings=Settings.in_memory()) as bus:
        with pytest.warns(DeprecationWarning, match=r"Bus.parts is Bus.runtime now"):
            assert bus.parts is bus.runtime
