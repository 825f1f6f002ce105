"""Which buses tell their traces and metrics, and until when."""

import asyncio
import sys
from collections.abc import Iterator
from threading import Event
from types import ModuleType
from typing import Any

import pytest
from structlog.testing import capture_logs

from bus import Bus, Settings
from bus.assembly.runtime import Runtime
from bus.telemetry import instrument, switch, uninstrument


class Listener:
    """Stands in for traces: notes who is attached, with which provider."""

    def __init__(self) -> None:
        self.attached: list[Any] = []
        self.ended = 0
        self.order: list[str] = []

    def attach(self, runtime: Runtime, provider: Any) -> switch.End:
        self.attached.append(provider)
        self.order.append("begin")

        def end() -> None:
            self.ended += 1
            self.order.append("end")

        return end


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    listener = Listener()
    module = ModuleType("bus.telemetry.tracing")
    module.attach = listener.attach  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bus.telemetry.tracing", module)
    yield listener
    switch.instrument_all()


def bank(**settings: Any) -> Bus:
    return Bus("bank", settings=Settings.in_memory(**settings))


async def test_a_bus_attaches_nothing_where_nobody_has_set_up_anything(listener: Listener) -> None:
    async with bank():
        pass
    assert listener.attached == []


async def test_a_bus_is_attached_from_its_opening_to_its_closing(listener: Listener) -> None:
    bus, mine = bank(), object()
    instrument(bus, tracer_provider=mine)
    assert listener.attached == []
    async with bus:
        assert (listener.attached, listener.ended) == ([mine], 0)
    assert listener.ended == 1


async def test_an_open_bus_is_attached_at_once_and_let_go_at_once(listener: Listener) -> None:
    mine = object()
    async with bank() as bus:
        instrument(bus, tracer_provider=mine)
        assert listener.attached == [mine]
        uninstrument(bus)
        assert listener.ended == 1
    async with bus:
        assert listener.attached == [mine]
        instrument(bus, tracer_provider=mine)
        assert listener.attached == [mine, mine]


@pytest.mark.real_time
async def test_all_openings_of_a_bus_are_let_go_before_one_is_attached_anew(
    listener: Listener,
) -> None:
    bus, opened, done = bank(), Event(), Event()
    instrument(bus, tracer_provider=object())

    async def hold() -> None:
        async with bus:
            opened.set()
            await asyncio.to_thread(done.wait)

    async with bus:
        there = asyncio.create_task(asyncio.to_thread(asyncio.run, hold()))
        try:
            assert await asyncio.to_thread(opened.wait, 60)
            instrument(bus, tracer_provider=object())
        finally:
            done.set()
            await there
    assert listener.order[:6] == ["begin", "begin", "end", "end", "begin", "begin"]


async def test_all_buses_of_a_process_are_attached_and_let_go(listener: Listener) -> None:
    mine = object()
    async with bank() as bus:
        switch.instrument_all(mine)
        assert listener.attached == [mine]
        switch.uninstrument_all()
        assert listener.ended == 1
    async with bus:
        assert len(listener.attached) == 1


async def test_the_provider_that_the_process_has_set_up_is_used(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = object()
    trace = pytest.importorskip("opentelemetry.trace")
    async with bank():
        assert listener.attached == []  # what stands in for one does not count
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: mine)
    async with bank():
        assert listener.attached == [mine]


async def test_telemetry_can_be_switched_off_by_setting(listener: Listener) -> None:
    switch.instrument_all(object())
    async with bank(telemetry="never"):
        assert listener.attached == []


@pytest.mark.parametrize("names", ["doubledecker", "redis, doubledecker", "*"])
async def test_telemetry_can_be_switched_off_as_any_instrumentation(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", names)
    switch.instrument_all(object())
    async with bank():
        assert listener.attached == []


async def test_a_provider_that_the_process_names_and_cannot_have_harms_nobody(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> object:
        raise LookupError("no such provider")

    monkeypatch.setattr(pytest.importorskip("opentelemetry.trace"), "get_tracer_provider", fails)
    with capture_logs() as lines:
        async with bank() as bus:
            assert (await bus.health()).ready
    assert listener.attached == []
    assert [line["event"] for line in lines] == ["telemetry_failed"]


async def test_what_cannot_be_attached_harms_nobody(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(runtime: Runtime, provider: Any) -> switch.End:
        raise RuntimeError("no")

    monkeypatch.setattr(sys.modules["bus.telemetry.tracing"], "attach", fails)
    switch.instrument_all(object())
    with capture_logs() as lines:
        async with bank() as bus:
            assert (await bus.health()).ready
    assert [line["event"] for line in lines] == ["telemetry_failed"]
