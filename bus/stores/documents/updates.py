"""What a batch writes into a read collection, worked out without touching a database.

A document that a projection deleted, or has not made yet, may still have to hold its stream's
version: it then stands as a hidden one, which no reader ever sees.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from bus.data.ids import key_of
from bus.data.payload import Document
from bus.errors import ConfigurationError, ProjectionError
from bus.stores.asking import check_mapping
from bus.stores.collections import UNUSABLE, Changes, Target, Write
from bus.stores.documents.values import PLAIN, Unstorable, stored
from bus.stores.records import unkeepable

VERSION = "_version"
HIDDEN = "_hidden"
OWN_FIELDS = frozenset({"_id", VERSION, HIDDEN})

OPERATORS = frozenset(
    [
        "$set",
        "$unset",
        "$inc",
        "$mul",
        "$min",
        "$max",
        "$rename",
        "$setOnInsert",
        "$currentDate",
        "$push",
        "$pull",
        "$pullAll",
        "$addToSet",
        "$pop",
        "$bit",
    ]
)


class Update(NamedTuple):
    """Apply a MongoDB update to the document; make it where it does not exist."""

    key: str
    update: Document
    by: str = ""


class Delete(NamedTuple):
    """Remove the document."""

    key: str


class Bury(NamedTuple):
    """Put a tombstone that holds `version` in the document's place."""

    key: str
    version: int


class Advance(NamedTuple):
    """Note `version` in the document, or in a hidden stub where there is none."""

    key: str
    version: int


Step = Update | Delete | Bury | Advance


def version_in(row: Mapping[str, Any], field: str, missing: int = UNUSABLE) -> int:
    """The version that a stored row holds, `missing` if it has no such field; `UNUSABLE` for
    anything that the bus would not have written, whose document nobody can go on from."""
    version = row.get(field, missing)
    return (
        version if isinstance(version, int) and version is not True and version >= 0 else UNUSABLE
    )


def moved(target: Target) -> ConfigurationError:
    """What to say where a projection's declaration now asks for its versions elsewhere."""
    return ConfigurationError(
        f"projection {target.projection!r} kept the versions of its streams "
        f"{'in checkpoints' if target.versions_in_documents else 'in its documents'} so far, and "
        f"is now declared so that they stand elsewhere (another category, a key=, a list of "
        f"changes or an async handler decides that); its documents would be folded twice, so "
        f"give it another version="
    )


def checked(key: str, update: Any, called: bool = False) -> Document:
    """The update as a dict, its values in the form that documents keep.

    Whether it was given to a `called` method, or returned by a handler, decides the remedies.
    Raises: ProjectionError where it is none that MongoDB could apply.
    """
    if (type(update) is not dict and not isinstance(update, Mapping)) or not update:
        raise ProjectionError(
            f"the update of {key!r} is {_given(update)}; {'give' if called else 'return'} a dict "
            f'of MongoDB update operators, such as {{"$set": {{...}}}}, or '
            f"{'call nothing' if called else 'None'} where nothing changes"
        )
    whole = dict(update)
    dotted = False
    for operator, fields in update.items():
        if operator not in OPERATORS:
            raise ProjectionError(
                f"the update of {key!r} has the key {operator!r:.100}, which is no MongoDB update "
                f"operator; put fields under one, such as $set or $inc"
            )
        if type(fields) is not dict and not isinstance(fields, Mapping):
            raise ProjectionError(
                f"the update of {key!r} gives {operator} a value of type {type(fields).__name__}; "
                f'it takes a dict of fields, as in {{"{operator}": {{"name": ...}}}}'
            )
        plain = True
        for path, value in fields.items():
            if type(path) is not str or not path.isidentifier() or path in OWN_FIELDS:
                _check_path(key, path, called=called)
                dotted = True
            if type(value) not in PLAIN:
                plain = False
        if operator == "$rename":
            dotted = True
            for path in fields.values():
                _check_path(key, path, called=called)
        elif not plain:
            whole[operator] = _stored_fields(key, operator, fields)
    if dotted or (len(whole) > 1 and _meet(whole)):
        _check_conflicts(key, whole)
    return whole


def _meet(update: Document) -> bool:
    """Whether two operators have a field of one name."""
    if len(update) == 2:
        one, other = update.values()
        return not one.keys().isdisjoint(other)
    return len({path for fields in update.values() for path in fields}) < sum(
        map(len, update.values())
    )


def _check_conflicts(key: str, update: Document) -> None:
    """Raises: ProjectionError where two operators, or two paths, write one field."""
    written: dict[str, str] = {}
    for operator, path in _places(update):
        if path in written:
            raise _conflict(key, written[path], path, operator, path)
        written[path] = operator
    for path, operator in written.items():
        end = path.rfind(".")
        while end > 0:
            if (outer := path[:end]) in written:
                raise _conflict(key, written[outer], outer, operator, path)
            end = path.rfind(".", 0, end)


def _places(update: Document) -> Iterator[tuple[str, str]]:
    """Every path that an update writes, with its operator."""
    for operator, fields in update.items():
        for path in fields:
            yield operator, path
        if operator == "$rename":
            for path in fields.values():
                yield operator, path


def _conflict(key: str, one: str, outer: str, other: str, path: str) -> ProjectionError:
    return ProjectionError(
        f"the update of {key!r} writes one field twice, {one} of {outer!r:.300} and {other} of "
        f"{path!r:.300}, which MongoDB refuses; let one of them write what is to stand there, or "
        f"write it in two updates, one after the other"
    )


def unkept(key: str, update: Mapping[str, Any]) -> ProjectionError:
    """What to say of an update that no document can hold: which value of it, and why."""
    for operator, fields in update.items():
        for path, value in fields.items():
            if why := unkeepable(value):
                return ProjectionError(
                    f"the update of {key!r:.300}, {operator} of {path!r:.300}: the value cannot be "
                    f"stored: {why}; {KEPT}"
                )
    return ProjectionError(
        f"the update of {key!a:.300} cannot be stored: {unkeepable(key) or 'it is too large'}; "
        f"{KEPT}"
    )


def refused_update(key: str, update: Mapping[str, Any], said: str) -> ProjectionError:
    """What to say of an update that the store refuses: its operators and fields, no values."""
    named = [
        f"{operator} of {path!r}"
        for operator, fields in update.items()
        for path in fields
        if path not in OWN_FIELDS
    ]
    return ProjectionError(f"the update of {key!r:.300}, {', '.join(named):.300}: {said}; {TYPES}")


TYPES = (
    "see that what is there, and what is given, is of a type that the operator takes, and that a "
    "path leads only through objects"
)
KEPT = "docs/projections.md lists what documents keep; integers have 64 bits, a document 15 MiB"


def _stored_fields(key: str, operator: str, fields: Mapping[str, Any]) -> Document:
    form: Document = {}
    for path, value in fields.items():
        try:
            form[path] = stored(value)
        except (Unstorable, RecursionError) as error:
            raise _refused(f"the update of {key!r}, {operator} of {path!r:.300}", error) from None
    return form


def _refused(where: str, error: Unstorable | RecursionError) -> ProjectionError:
    """What to say of a value that documents cannot keep."""
    if isinstance(error, RecursionError):
        return ProjectionError(f"{where}: the value is nested too deep, or within itself")
    place = f"{where}, at {error.path!r:.300}" if error.path else where
    return ProjectionError(f"{place}: the value {error.why}")


def _given(update: Any) -> str:
    return "empty" if isinstance(update, Mapping) else f"of type {type(update).__name__}"


def _check_path(key: str, path: Any, *, called: bool) -> None:
    """Raises: ProjectionError for a field that would be misread, or is the bus's own.

    A path may hold a value of the event's: then a dot in it leads elsewhere, which only its author
    can know; what is refused here is never meant.
    """
    parts = path.split(".") if isinstance(path, str) else [""]
    if parts[0] in OWN_FIELDS:
        raise ProjectionError(
            f"the update of {key!r} writes {parts[0]}, which the bus sets itself"
            + (_KEY_CHOSEN[called] if parts[0] == "_id" else "; name the field otherwise")
        )
    for place, part in enumerate(parts):
        if not part or "\0" in part or (part.startswith("$") and part != "$[]"):
            within = f" under {'.'.join(parts[:place])!r:.100}" if place else ""
            raise ProjectionError(
                f"the update of {key!r} has a field{within} whose name is empty, begins with $, or "
                f"holds a NUL; keep what comes from an event as a value, not as a field's name, as "
                f'in {{"$addToSet": {{"owners": event.owner}}}}'
            )


_KEY_CHOSEN = {
    True: " to the document's key; choose that as what update(key, ...) gets first",
    False: " to the document's key; @projection.on(..., key=...) chooses that",
}


def plain_steps(writes: Iterable[Write]) -> Iterator[Step]:
    """The steps where the versions are kept elsewhere: a delete is a real delete."""
    for write in writes:
        if write.update is None:
            yield Delete(write.key)
        else:
            yield Update(write.key, _checked(write), write.by)


def _checked(write: Write) -> Document:
    try:
        return checked(write.key, write.update)
    except ProjectionError as error:
        raise by_whom(write.by, error) from None


def by_whom(handler: str, error: ProjectionError) -> ProjectionError:
    """The error with the handler in front that caused it."""
    return ProjectionError(f"{handler}: {error}" if handler else str(error))


def versioned_steps(changes: Changes, hidden: set[str]) -> Iterator[Step]:
    """The steps where each document holds its stream's version, which its last write sets.

    `hidden` names the keys whose documents are hidden so far; it is kept up to date.
    """
    versions = {key_of(stream): version for stream, version in changes.versions.items()}
    last = {write.key: position for position, write in enumerate(changes.writes)}
    for position, write in enumerate(changes.writes):
        if write.key not in versions:
            raise ProjectionError(
                f"{write.by or 'a handler'}: it writes the document {write.key!r}, and its "
                f"projection keeps a document for each stream, under the stream's id"
            )
        if write.update is None:
            yield buried(write.key, versions[write.key], hidden)
            continue
        try:
            update = updated(write.key, write.update, hidden).update
        except ProjectionError as error:
            raise by_whom(write.by, error) from None
        if last[write.key] == position:
            update = merged(update, "$set", {VERSION: versions[write.key]})
        yield Update(write.key, update, write.by)
    yield from (Advance(key, version) for key, version in versions.items() if key not in last)


def buried(key: str, version: int, hidden: set[str]) -> Bury:
    """Puts a tombstone at `key`."""
    hidden.add(key)
    return Bury(key, version)


def updated(key: str, update: Any, hidden: set[str], *, called: bool = False) -> Update:
    """The update at `key`, where a hidden document may stand: to its author, it then inserts."""
    update = checked(key, update, called)
    if key not in hidden:
        return Update(key, update)
    hidden.remove(key)
    on_insert = update.pop("$setOnInsert", {})
    if on_insert:
        update = merged(update, "$set", on_insert)
    return Update(key, merged(update, "$unset", {HIDDEN: ""}))


def merged(update: Document, operator: str, fields: Mapping[str, Any]) -> Document:
    """The update with more fields under one operator."""
    return {**update, operator: {**update.get(operator, {}), **fields}}


def asked(filter: Mapping[str, Any], *, versioned: bool) -> Document:
    """The filter with values in the form that documents keep; without hidden documents, where
    these hold versions. Raises: ProjectionError."""
    check_mapping(filter)
    try:
        form: Document = stored({**filter})
    except (Unstorable, RecursionError) as error:
        raise _refused("the filter", error) from None
    return {**form, HIDDEN: {"$exists": False}} if versioned else form
