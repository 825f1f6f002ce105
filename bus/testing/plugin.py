"""The pytest plugin under its former name. pytest finds `pytest_doubledecker` by itself; with
PYTEST_DISABLE_PLUGIN_AUTOLOAD, `-p bus.testing.plugin` loads it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from bus.testing.simulation.world import World

pytest_plugins = ["pytest_doubledecker"]

Chaos = Callable[..., AbstractAsyncContextManager[World]]
"""The type of the fixture `chaos`."""
