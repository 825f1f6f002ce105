from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from pydantic import PrivateAttr

from bus import Bus, Settings, StoreUnavailable
from bus.assembly.backend import Backend, default_backend
from bus.observe.loops import Loops
from bus.stores.memory import MemoryControl
from tests.service.lifecycle_contract import LifecycleContract, pay
from tests.service.wallet import Diary, build


class TestLifecycleInMemory(LifecycleContract):
    @pytest.fixture
    def make_with(self, diary: Diary) -> Callable[..., Bus]:
        return lambda **changed: build(Settings.in_memory(**changed), diary)


class Away(MemoryControl):
    async def open(self, *, makes: bool = True) -> None:
        raise StoreUnavailable("away")


class Late(Settings):
    """The store is away for the first openings."""

    _away: int = PrivateAttr(2)

    def backend(self, service: str, projected: Sequence[str], loops: Loops) -> Backend:
        backend = default_backend(self)(service, projected, loops)
        self._away -= 1
        return backend if self._away < 0 else replace(backend, control=Away())


async def test_an_opening_that_failed_is_tried_again() -> None:
    bus = build(Late.in_memory())
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="away"):
            await bus.__aenter__()
    assert await pay(bus, 1) == 1
