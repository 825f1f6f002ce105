"""A bus stands on the backend that it is given, and on what its settings ask for without one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from bus import Backend, Bus, Command, ConfigurationError, Router, Settings, default_backend
from bus.observe.loops import Loops
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


async def test_what_is_in_memory_is_made_once() -> None:
    bus = Bus("bells", routers=[bells()], settings=Settings.in_memory())
    async with bus:
        log = bus.runtime.event_log
    async with bus:
        assert bus.runtime.event_log is log


@pytest.mark.parametrize("given", ["memory", 1, cast(Any, Backend).__new__(Backend)])
def test_what_makes_no_backend_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Bus\('bells'\): backend= is of type \w+; give"):
        Bus("bells", settings=Settings.in_memory(), backend=given)


def test_a_client_is_for_the_default_backend() -> None:
    settings = Settings.in_memory()
    with pytest.raises(ConfigurationError, match=r"default_backend\(settings, client\)"):
        Bus("bells", settings=settings, backend=default_backend(settings), client=object())


async def test_the_former_name_of_runtime_is_kept_with_a_warning() -> None:
    async with Bus("bells", settings=Settings.in_memory()) as bus:
        with pytest.warns(DeprecationWarning, match=r"Bus.parts is Bus.runtime now"):
            assert bus.parts is bus.runtime
