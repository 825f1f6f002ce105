"""Checks of an aggregate's class: refuses what could not be stored, loaded or applied."""

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any

from bus.common.calls import made_for
from bus.common.signatures import inspected
from bus.errors import ConfigurationError
from bus.write.functions import functions_in
from bus.write.state import annotated, is_class_var

OPTIONS = ("category", "events", "snapshot_every")
TAKEN = frozenset({"stream", "record", "recorded", "recorded_data", "to_snapshot", "from_snapshot"})
COUNTED = frozenset({"id", "version"})


def check_names(cls: type) -> None:
    """Raises: ConfigurationError if a class's own state uses a name that `Aggregate` needs."""
    own, found = vars(cls), annotated(cls)
    state = {name for name, kind in found.items() if not is_class_var(kind)}
    for name in OPTIONS:
        if name in state:
            raise _taken(cls, name, "")
        if name in own and not callable(own[name]) and not isinstance(own[name], classmethod):
            raise _taken(cls, name, f", or, if it is that, write class ...(Aggregate, {name}=...)")
    for name in TAKEN & (state | own.keys()):
        if name in state or not (callable(own[name]) or hasattr(own[name], "__get__")):
            raise _taken(cls, name, "")
    for name in COUNTED & own.keys():
        if not hasattr(own[name], "__get__"):
            raise _taken(cls, name, "")


def _taken(cls: type, name: str, otherwise: str) -> ConfigurationError:
    return ConfigurationError(
        f"{cls.__qualname__}: {name!r} is a name of the aggregate's own, by which it is stored; "
        f"call that part of its state otherwise{otherwise}"
    )


def overwritten(cls: type, name: str) -> ConfigurationError:
    """Returns the error for an aggregate that has overwritten what it is stored by."""
    return _taken(cls, name, f", where it writes self.{name} = ...")


def records_itself(cls: type) -> ConfigurationError:
    """Returns the error for an aggregate that records an event while another one is applied."""
    return ConfigurationError(
        f"{cls.__qualname__}: its apply() records an event, and would do so again each time one is "
        f"loaded; record it in the method that records the first one, after that"
    )


def not_begun(cls: type) -> ConfigurationError:
    """Returns the error for an aggregate that has neither id nor version."""
    return ConfigurationError(
        f"{cls.__qualname__}: its __init__ leaves out that of Aggregate, by which it has its id "
        f"and version; begin it with super().__init__(id)"
    )


def check_made_by_id(cls: type) -> None:
    """Raises: ConfigurationError if a repository could not make an aggregate to load it."""
    if dataclasses.is_dataclass(cls):
        raise ConfigurationError(
            f"{cls.__qualname__}: it is a dataclass, whose __init__ takes the id for its "
            f"first field; take @dataclass away, its annotated attributes are its state"
        )
    signature = inspected(cls, follow_wrapped=False)  # a decorator may supply the rest
    try:
        signature.bind("id")
    except TypeError:
        raise ConfigurationError(
            f"{cls.__qualname__}: its __init__ takes {signature}, and a repository gives it the id "
            f"alone when it loads one; let it take `id` first and nothing else without a default, "
            f"and hand the rest to the methods that need it"
        ) from None
    for made in [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]:
        for event in made_for(made, "record", "self"):
            raise ConfigurationError(
                f"{cls.__qualname__}: its __init__ records {event.__name__}, and would do so again "
                f"each time one is loaded; record it in a method, which is called once"
            )


def check_applied(cls: type, applied: Iterable[Any]) -> None:
    """Raises: ConfigurationError for an `apply` that would change nothing."""
    for function in (function for apply in applied for function in functions_in(apply)):
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"{cls.__qualname__}: apply() is async, and nobody would await it, so that no "
                f"event would change anything; write `def apply`"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"{cls.__qualname__}: apply() has a `yield`, and nobody would go through it, so "
                f"that no event would change anything; take the `yield` away"
            )
        for _ in made_for(function, "record", "self"):
            raise records_itself(cls)
