"""Snapshots and states that cannot be made or read: aggregates are then read from all of their
events. And whether the states of a category are complete, so that they can be searched.

That is noted in the log's store, as the state of what cannot be a stream, so that it is read with
the states themselves.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from pydantic import ValidationError

from bus.common.fingerprint import reason_of
from bus.errors import ConfigurationError, NotBuilt
from bus.observe.log import Logger
from bus.stores.event_log import EventLog, Snapshot
from bus.write.aggregate import Aggregate, state_shape
from bus.write.state import Shape

log = Logger("bus.write")

MOST_FOUND = 1000
KNOWN_FOR = 1.0

_warned: WeakSet[type] = WeakSet()
_unmade: WeakSet[type] = WeakSet()

_known: WeakKeyDictionary[EventLog, dict[str, tuple[bool, float]]] = WeakKeyDictionary()

AnyAggregate = TypeVar("AnyAggregate", bound=Aggregate)


def made_of(aggregate: Aggregate) -> Snapshot | None:
    """Returns the snapshot, or None if it cannot be made; warns once per class."""
    try:
        return aggregate.to_snapshot()
    except Exception as error:  # types of its state may raise anything; its events are stored
        _unmade.add(type(aggregate))
        warn_once(type(aggregate), aggregate.stream, error)
        return None


def could_be_made(kind: type[Aggregate]) -> bool:
    """Returns whether no snapshot of the class has failed, so that an extra one is worth a try."""
    return kind not in _unmade


def read(kind: type[AnyAggregate], snapshot: Snapshot, id: str) -> AnyAggregate | None:
    """Returns the aggregate as it was, or None if its snapshot or state cannot be read; then warns
    once per class."""
    try:
        return kind.from_snapshot(snapshot, id)
    except Exception as error:  # the events give the same state
        warn_once(kind, snapshot.stream, error)
        return None


def warn_once(kind: type[Aggregate], stream: str, error: BaseException) -> None:
    """Warns that a class's state cannot be stored or read, once per class."""
    if kind in _warned:
        return
    _warned.add(kind)
    name, reason = kind.__qualname__, reason_of(error)
    then = "its streams are read from their beginning; this is told once"
    if kind.storing.by_state:
        log.warning("no_state", aggregate=name, stream=stream, reason=reason, then=then)
    else:
        log.warning("no_snapshot", aggregate=name, stream=stream, reason=reason, then=then)


# States that are found by their fields


def asked(kind: type[Aggregate], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values to find aggregates by, as their states hold them.

    Raises: ConfigurationError for what cannot be found.
    """
    where = f"Repository[{kind.__name__}].find({', '.join(f'{name}=...' for name in fields)})"
    if not kind.storing.by_state:
        raise ConfigurationError(
            f"{where}: {kind.__name__} is stored by its events, and found by its id alone; write "
            f'class {kind.__name__}(Aggregate, stored="state", indexes=[{next(iter(fields))!r}]), '
            f"or let the command name the ids, from a query"
        )
    shape = state_shape(kind)
    for name in fields:
        if name not in shape.names:
            raise ConfigurationError(
                f"{where}: the state of {kind.__name__} has no {name!r}; it has "
                f"{', '.join(sorted(shape.names))}"
            )
    if fields.keys().isdisjoint(kind.storing.indexes):
        raise ConfigurationError(
            f"{where}: none of these has an index, so all states would be gone through; write "
            f'class {kind.__name__}(Aggregate, stored="state", indexes=[{next(iter(fields))!r}])'
        )
    return {name: _form(shape, name, value, where) for name, value in fields.items()}


def _form(shape: Shape, name: str, value: Any, where: str) -> Any:
    try:
        form = shape.form_of(name, value)
    except ValidationError as error:
        raise ConfigurationError(
            f"{where}: the state never holds such a value: {reason_of(error)}"
        ) from None
    if not isinstance(form, str | int | float | None):
        raise ConfigurationError(
            f"{where}: {name} holds {type(form).__name__}s, and only texts, numbers, truth values "
            f"and None can be found; keep what is to be found in a field of its own"
        )
    return form


def check_found(kind: type[Aggregate], found: Sequence[Snapshot]) -> None:
    """Raises: ConfigurationError if there are more than can be found at once."""
    if len(found) <= MOST_FOUND:
        return
    remedy = (
        "narrow it by further fields, or let a command take some at a time, by their ids from a "
        "query"
    )
    if any(state.shape != str(kind.storing.schema) for state in found):
        remedy = f"some are of another schema; run `bus aggregates store APP {kind.__name__}`"
    raise ConfigurationError(
        f"Repository[{kind.__name__}].find(...) finds more than {MOST_FOUND:,}: {remedy}"
    )


# Whether they are complete


async def prepare(event_log: EventLog, kind: type[Aggregate]) -> None:
    """Makes what the states of a class need. Those of a category without any commit are complete;
    they are no longer where the class is stored by its events here, which writes no states, and
    nobody who is storing them may note now that they are.

    Raises: StoreUnavailable, ConfigurationError.
    """
    if not kind.storing.by_state:
        if await event_log.state(_note(kind)) is not None:
            by_events = f"this release stores {kind.__name__} by its events"
            if await note_incomplete(event_log, kind, by_events):
                await asyncio.sleep(KNOWN_FOR)  # until everybody knows
        return
    await event_log.prepare_states(kind.category, kind.storing.indexes)
    if await event_log.state(_note(kind)) is not None:
        return
    if kind.category not in await event_log.categories():
        await note_complete(event_log, kind, 0)


async def is_complete(event_log: EventLog, kind: type[Aggregate]) -> bool:
    """Returns whether each stream of a class has its state."""
    note = await event_log.state(_note(kind))
    return note is not None and note.state["complete"] is True


async def was_complete(event_log: EventLog, kind: type[Aggregate]) -> bool:
    """Returns whether each stream of a class had its state, a moment ago: asked once a second."""
    known = _known.setdefault(event_log, {})
    complete, since = known.get(kind.category, (False, -KNOWN_FOR))
    now = time.monotonic()
    if now - since >= KNOWN_FOR:
        complete = await is_complete(event_log, kind)
        known[kind.category] = complete, now
    return complete


async def check_complete(event_log: EventLog, kind: type[Aggregate]) -> None:
    """Raises: NotBuilt if the states of a class are not complete."""
    if not await is_complete(event_log, kind):
        raise NotBuilt(
            f"Repository[{kind.__name__}].find(...) by fields: not every {kind.__name__} has its "
            f"state yet, because some were stored by their events alone; once no process of a "
            f'release without stored="state" runs, run `bus aggregates store APP {kind.__name__}`'
        )


async def turn(event_log: EventLog, kind: type[Aggregate]) -> int:
    """Returns a number that `note_complete` takes, if nothing was found missing meanwhile."""
    note = await event_log.state(_note(kind))
    return 0 if note is None else note.version


async def begun(event_log: EventLog, kind: type[Aggregate]) -> int:
    """Returns what `turn` does, as states begin to be stored. First notes that they are not
    complete, if nothing is noted: only who finds a note can take back what is noted later."""
    if await event_log.state(_note(kind)) is None:
        await _save(event_log, kind, Snapshot(_note(kind), 1, "1", {"complete": False}))
    return await turn(event_log, kind)


async def note_complete(event_log: EventLog, kind: type[Aggregate], turn: int) -> bool:
    """Notes that the states of a class are complete, unless one was found behind its stream since
    `turn`; returns whether they are."""
    await _save(event_log, kind, Snapshot(_note(kind), turn + 1, "1", {"complete": True}))
    return await is_complete(event_log, kind)


async def note_incomplete(event_log: EventLog, kind: type[Aggregate], reason: str) -> bool:
    """Notes that events are stored without their states, by somebody else or from now on; returns
    whether the states were complete before, and warns if so."""
    note = Snapshot(_note(kind), await turn(event_log, kind) + 2, "1", {"complete": False})
    were_complete = await is_complete(event_log, kind)
    await _save(event_log, kind, note)
    if were_complete:
        log.warning(
            "states_incomplete",
            aggregate=kind.__qualname__,
            reason=reason,
            then="states are read together with their events, and found by ids alone, until "
            "`bus aggregates store` has run",
        )
    return were_complete


async def _save(event_log: EventLog, kind: type[Aggregate], note: Snapshot) -> None:
    await event_log.save_state(note)
    _known.pop(event_log, None)


async def forget(event_log: EventLog, kind: type[Aggregate]) -> None:
    """Drops the states of a class; first the note that they are complete."""
    await event_log.forget_states(_note(kind))
    _known.pop(event_log, None)
    await event_log.forget_states(kind.category)


def _note(kind: type[Aggregate]) -> str:
    return f"={kind.category}"
