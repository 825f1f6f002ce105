"""The pytest plugin by its former name. pytest finds `pytest_doubledecker` by itself, unless it was
told to find none (PYTEST_DISABLE_PLUGIN_AUTOLOAD); then `-p bus.testing.plugin` loads it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from bus.testing.simulation.world import World

pytest_plugins = ["pytest_doubledecker"]

Chaos = Callable[..., AbstractAsyncContextManager[World]]
"""What the fixture `chaos` is."""
