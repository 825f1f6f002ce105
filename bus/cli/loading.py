"""From an import string to a bus."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus.bus import Bus
from bus.errors import ConfigurationError
from bus.settings import Settings


def load(target: str, settings: Callable[[], Settings]) -> Bus:
    """The bus that `module:function` builds from what `settings` gives.

    The working directory is importable, as with `python -m`. Raises: ConfigurationError.
    """
    build = _function(target)
    built: Any = build(settings())
    if not isinstance(built, Bus):
        raise ConfigurationError(
            f"{target} returned {type(built).__name__}; it must take Settings and return a Bus"
        )
    return built


def _function(target: str) -> Any:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ConfigurationError(
            f"{target!r} is no import string; write module:function, as in handlers.app:build"
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigurationError(
            f"there is no module {module_name!r} in {folder} or among the installed packages; "
            f"start the command in the folder that holds it"
        ) from None
    if not callable(getattr(module, name, None)):
        raise ConfigurationError(f"module {module_name!r} has no function {name!r}")
    return getattr(module, name)
