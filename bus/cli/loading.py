"""Loads a bus from an import string. A failure in the application's own code is shown as if the
bus were not there: its error and its lines."""

import importlib
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from bus.building import a, as_bus, caller_of
from bus.bus import Bus
from bus.errors import BusError, ConfigurationError
from bus.settings import Settings

OURS = str(Path(__file__).parents[1])
EXAMPLE = "write module:function, as in handlers.app:build"


def load(target: str, settings: Callable[[], Settings]) -> Bus:
    """Returns the bus that `module:name` is, or that it builds from the settings of `settings`.

    The name may have dots, as in `main:app.state.bus`. The working directory is importable, as with
    `python -m`. Raises: ConfigurationError, and any BusError that the application raises.
    """
    module, name = _parsed(target)
    imported = _module(module)
    _warn_of_another(module)
    found = _attribute(imported, name)
    if isinstance(found, Bus):
        return found
    if not callable(found):
        raise ConfigurationError(
            f"{target} is {a(found)}; it must be a Bus, or a function that takes Settings and "
            f"returns one"
        )
    return _built(target, found, settings)


def without_servers() -> Settings:
    """Returns settings for what only describes a service. Where its log is stays as it is set,
    because that decides which session its handlers may take; nothing connects there."""
    return Settings.in_memory(log_url=os.environ.get("BUS_LOG_URL", ""))


def _parsed(target: str) -> tuple[str, str]:
    module, colon, name = target.partition(":")
    path = module.replace("\\", "/").removeprefix("./")
    if "/" in path or path.endswith(".py"):
        dotted = path.removesuffix(".py").strip("/").replace("/", ".")
        raise ConfigurationError(
            f"{target!r} is a path; write the module as it is imported: {dotted}:{name or 'build'}"
        )
    if not colon and _are_names(module):
        package, _, last = module.rpartition(".")
        other = f"; or {package}:{last}, where {last} is the function" if package else ""
        raise ConfigurationError(
            f"{target!r} is not an import string: it names no function; write {module}:build, if "
            f"that is what it is called{other}"
        )
    if not (_are_names(module) and _are_names(name)):
        raise ConfigurationError(f"{target!r} is not an import string; {EXAMPLE}")
    return module, name


def _are_names(dotted: str) -> bool:
    return all(name.isidentifier() for name in dotted.split("."))


def _module(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except BusError:
        raise
    except Exception as error:
        if _is_missing(name, error):
            raise ConfigurationError(_no_module(name, folder)) from None
        raise ConfigurationError(f"{name} cannot be imported:\n{_failed(error)}") from None


def _warn_of_another(name: str) -> None:
    """Warns on standard error if the module is not the one in the working directory."""
    top, folder = name.partition(".")[0], str(Path.cwd())
    file = getattr(sys.modules.get(top), "__file__", None)
    if not file or not _holds(folder, top) or Path(file).is_relative_to(folder):
        return
    there = Path(folder) / top
    bare = there.is_dir() and not (there / "__init__.py").exists()
    remedy = (
        f"add {top}/__init__.py, without which a package elsewhere goes first"
        if bare
        else f"put {folder} first in PYTHONPATH"
    )
    print(
        f"warning: {top!r} is {file}, not {top} in {folder}; {remedy}, or give it another name",
        file=sys.stderr,
    )


def _is_missing(name: str, error: Exception) -> bool:
    """Returns whether the module itself is missing, and not something that it imports."""
    own = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
    return own and not any(_is_theirs(frame) for frame, _ in _frames(error))


def _no_module(name: str, folder: str) -> str:
    top, *_ = name.split(".")
    hiding = getattr(sys.modules.get(top), "__file__", None)
    if hiding and _holds(folder, top) and not hiding.startswith(folder):
        return (
            f"there is no module {name!r}: {top!r} is {hiding}, which was imported before; give "
            f"the folder or file {top} in {folder} another name"
        )
    return (
        f"there is no module {name!r} in {folder} or among the installed packages"
        f"{_near(name, _modules_beside(name, folder)) or ';'} start the command in the folder that "
        f"holds it"
    )


def _holds(folder: str, name: str) -> bool:
    return (Path(folder) / name).is_dir() or (Path(folder) / f"{name}.py").exists()


def _modules_beside(name: str, folder: str) -> list[str]:
    """Returns the modules in the place where the missing one was looked for."""
    parent, dot, _ = name.rpartition(".")
    place = getattr(sys.modules.get(parent), "__path__", None) if dot else [folder]
    if not place:
        return []
    return [f"{parent}{dot}{module.name}" for module in pkgutil.iter_modules(place)]


def _attribute(module: ModuleType, dotted: str) -> Any:
    found: Any = module
    where, seen = f"module {module.__name__!r}", f"{module.__name__}:"
    for name in dotted.split("."):
        try:
            found = getattr(found, name)
        except BusError:
            raise
        except Exception as error:
            if not isinstance(error, AttributeError) or _is_declared(found, name):
                raise ConfigurationError(f"{seen}{name} failed:\n{_failed(error)}") from None
            there = [public for public in dir(found) if not public.startswith("_")]
            hint = _submodule(module, dotted) or _near(name, there) or _which(found)
            raise ConfigurationError(f"{where} has no {name!r}{hint}") from None
        where = f"{seen}{name}"
        seen = f"{where}."
    return found


def _is_declared(found: Any, name: str) -> bool:
    """Returns whether an attribute exists although reading it failed: a property that raised."""
    return inspect.getattr_static(found, name, None) is not None


def _submodule(package: ModuleType, dotted: str) -> str:
    """Suggests `handlers.app:build` for `handlers:app.build`."""
    first, _, rest = dotted.partition(".")
    place = getattr(package, "__path__", ())
    if first not in {module.name for module in pkgutil.iter_modules(place)}:
        return ""
    return f"; did you mean {package.__name__}.{first}:{rest or 'build'}?"


def _which(found: Any) -> str:
    file = getattr(found, "__file__", None)
    where = f" in {file}" if file else ""
    return f"{where}; name what takes Settings and returns a Bus, as in handlers.app:build"


def _near(name: str, there: Iterable[str]) -> str:
    near = get_close_matches(name, there, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _built(target: str, build: Callable[..., Any], settings: Callable[[], Settings]) -> Bus:
    call = caller_of(target, build, settings)
    try:
        built = call()
    except BusError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{target} failed:\n{_failed(error)}") from None
    return as_bus(target, built)


def _failed(error: BaseException) -> str:
    """Shows an error of the application, with a remedy if it comes from how we call it."""
    shown = _shown(error)
    if isinstance(error, RuntimeError) and re.search("no (running|current) event loop", str(error)):
        return (
            f"{shown}\nEvery command loads the application outside of an event loop; make what "
            f"needs a running one where it is used, in an object that makes it at its first use, "
            f"say"
        )
    return shown


def _shown(error: BaseException) -> str:
    """Formats an error as Python does, without our lines and those of importing."""
    shown = traceback.TracebackException.from_exception(error)
    for link in _chain(shown):
        link.stack = traceback.StackSummary.from_list(
            [line for line in link.stack if _is_file_theirs(line.filename)]
        )
    return "".join(shown.format()).rstrip()


def _chain(
    shown: traceback.TracebackException,
) -> Iterator[traceback.TracebackException]:
    yield shown
    for other in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if other is not None:
            yield from _chain(other)


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    return traceback.walk_tb(error.__traceback__)


def _is_theirs(frame: FrameType) -> bool:
    return _is_file_theirs(frame.f_code.co_filename)


def _is_file_theirs(name: str) -> bool:
    return not name.startswith((OURS, importlib.__file__ or OURS, "<frozen importlib"))
