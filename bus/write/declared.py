"""Checks of an aggregate's class: refuses what could not be stored, loaded or applied."""

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

from bus.common.calls import functions_in, made_for
from bus.common.signatures import inspected
from bus.data.classes import check_upcast
from bus.errors import ConfigurationError
from bus.write.state import annotated, is_class_var

OPTIONS = ("category", "events", "snapshot_every")
TAKEN = frozenset(
    {"stream", "record", "recorded", "recorded_data", "to_snapshot", "from_snapshot", "storing"}
)
COUNTED = frozenset({"id", "version"})
STORED = ("events", "state")


class Storing(NamedTuple):
    """How aggregates of a class are stored: `by_state`, with `indexes` on fields of a state of this
    `schema`; or by their events alone."""

    by_state: bool = False
    indexes: tuple[str, ...] = ()
    schema: int = 1


def storing_of(cls: type, stored: Any, indexes: Any, schema: Any, snapshot_every: int) -> Storing:
    """Returns how a class is stored. Raises: ConfigurationError for options that do not fit."""
    if stored not in STORED:
        raise ConfigurationError(
            f'{cls.__qualname__}: stored={stored!r:.100}: write stored="state", or leave it out: '
            f"an aggregate is stored by its events"
        )
    if not (type(schema) is int and schema >= 1):
        raise ConfigurationError(
            f"{cls.__qualname__}: schema={schema!r}: give a whole number, 1 or more"
        )
    listed = tuple(indexes) if isinstance(indexes, list | tuple) else ()
    if len(listed) != len(indexes) or not all(isinstance(name, str) for name in listed):
        raise ConfigurationError(
            f"{cls.__qualname__}: indexes={indexes!r:.100}: write a list of names of its state, as "
            f'in indexes=["status"]'
        )
    if stored == "events" and (listed or schema != 1):
        named = "indexes=" if listed else "schema="
        raise ConfigurationError(
            f"{cls.__qualname__}: {named} is about a stored state, and it is stored by its events; "
            f'write class {cls.__name__}(Aggregate, stored="state", {named}...), or take it out'
        )
    if stored == "state" and snapshot_every:
        raise ConfigurationError(
            f'{cls.__qualname__}: stored="state" keeps its state with each commit, and there is '
            f"nothing for snapshot_every= to do; take that out"
        )
    return Storing(stored == "state", listed, schema)


def check_storing(cls: type, storing: Storing, state: Iterable[str]) -> None:
    """Raises: ConfigurationError for an index of what is no state, or an `upcast` that cannot be
    called."""
    check_upcast(cls)
    known = sorted(state)
    for name in storing.indexes:
        if name not in known:
            raise ConfigurationError(
                f"{cls.__qualname__}: indexes=[{name!r}]: its state has no such field; it has "
                f"{', '.join(known) or 'none'}: annotate it in the class, or correct the name"
            )
    if len(set(storing.indexes)) < len(storing.indexes):
        raise ConfigurationError(
            f"{cls.__qualname__}: indexes={list(storing.indexes)!r:.200} names a field twice; name "
            f"it once"
        )


def check_names(cls: type) -> None:
    """Raises: ConfigurationError if a class's own state uses a name that `Aggregate` needs."""
    own, found = vars(cls), annotated(cls)
    state = {name for name, kind in found.items() if not is_class_var(kind)}
    for name in OPTIONS:
        if name in state:
            raise _taken(cls, name, "")
        if name in own and not callable(own[name]) and not isinstance(own[name], classmethod):
            raise _taken(cls, name, f", or, if it is that, write class ...(Aggregate, {name}=...)")
    if isinstance(own.get("stored"), str) and own["stored"] in STORED:
        raise _taken(cls, "stored", ", or, if it is that, write class ...(Aggregate, stored=...)")
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
