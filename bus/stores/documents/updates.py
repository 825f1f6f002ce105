"""What a batch writes into a read collection, computed without a database.

A document that a projection deleted, or has not created yet, may still have to hold its stream's
version: it is then stored as a hidden one, which no reader ever sees.
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
    """Applies a MongoDB update to the document; creates it if there is none."""

    key: str
    update: Document
    by: str = ""


class Delete(NamedTuple):
    """Removes the document."""

    key: str


class Bury(NamedTuple):
    """Replaces the document by a tombstone that holds `version`."""

    key: str
    version: int


class Advance(NamedTuple):
    """Sets `version` in the document, or in a hidden stub if there is none."""

    key: str
    version: int


Step = Update | Delete | Bury | Advance


def version_in(row: Mapping[str, Any], field: str, missing: int = UNUSABLE) -> int:
    """Returns the version that a stored row holds; `missing` if it has no such field, and
    `UNUSABLE` for what the bus would not have written, because its document cannot be continued."""
    version = row.get(field, missing)
    return (
        version if isinstance(version, int) and version is not True and version >= 0 else UNUSABLE
    )


def moved(target: Target) -> ConfigurationError:
    """Returns the error for a projection whose declaration has moved its versions elsewhere."""
    return ConfigurationError(
        f"projection {target.projection!r} kept the versions of its streams "
        f"{'in checkpoints' if target.versions_in_documents else 'in its documents'} so far, and "
        f"is now declared so that they stand elsewhere (another category, a key=, a list of "
        f"changes or an async handler decides that); its documents would be folded twice, so "
        f"give it another version="
    )


def checked(key: str, update: Any, called: bool = False) -> Document:
    """Returns the update as a dict, its values in the form that documents keep.

    `called` says that it was given to a method rather than returned by a handler; the remedies
    differ. Raises: ProjectionError if MongoDB could not apply it.
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
    """Returns whether two operators have a field of the same name."""
    if len(update) == 2:
        fields, others = update.values()
        return not fields.keys().isdisjoint(others)
    return len({path for fields in update.values() for path in fields}) < sum(
        map(len, update.values())
    )


def _check_conflicts(key: str, update: Document) -> None:
    """Raises: ProjectionError if two operators, or two paths, write the same field."""
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
    """Yields every path that an update writes, with its operator."""
    for operator, fields in update.items():
        for path in fields:
            yield operator, path
        if operator == "$rename":
            for path in fields.values():
                yield operator, path


def _conflict(key: str, operator: str, outer: str, other: str, path: str) -> ProjectionError:
    return ProjectionError(
        f"the update of {key!r} writes one field twice, {operator} of {outer!r:.300} and {other} "
        f"of {path!r:.300}, which MongoDB refuses; let one of them write what is to stand there, "
        f"or write it in two updates, one after the other"
    )


def unkept(key: str, update: Mapping[str, Any]) -> ProjectionError:
    """Returns the error for an update that no document can hold: which value, and why."""
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
    """Returns the error for an update that the store refuses: operators and fields, no values."""
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
    """Returns the error for a value that documents cannot keep."""
    if isinstance(error, RecursionError):
        return ProjectionError(f"{where}: the value is nested too deep, or within itself")
    place = f"{where}, at {error.path!r:.300}" if error.path else where
    return ProjectionError(f"{place}: the value {error.why}")


def _given(update: Any) -> str:
    return "empty" if isinstance(update, Mapping) else f"of type {type(update).__name__}"


def _check_path(key: str, path: Any, *, called: bool) -> None:
    """Raises: ProjectionError for a field that would be misread, or is the bus's own.

    A path may contain a value from an event, and then a dot in it leads elsewhere; only its author
    can know. What is refused here is never intended.
    """
    parts = path.split(".") if isinstance(path, str) else [""]
    if parts[0] in OWN_FIELDS:
        raise ProjectionError(
            f"the update of {key!r} writes {parts[0]}, which the bus sets itself"
            + (_KEY_CHOSEN[called] if parts[0] == "_id" else "; give the field another name")
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
    """Yields the steps if versions are kept elsewhere: a delete is a real delete.

    Raises: ProjectionError.
    """
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
    """Returns the error with its handler in front."""
    return ProjectionError(f"{handler}: {error}" if handler else str(error))


def versioned_steps(changes: Changes, hidden: set[str]) -> Iterator[Step]:
    """Yields the steps if each document holds its stream's version, which its last write sets.

    `hidden` are the keys of hidden documents; it is kept up to date. Raises: ProjectionError.
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
    """Returns the step that puts a tombstone at `key`, and notes it as hidden."""
    hidden.add(key)
    return Bury(key, version)


def updated(key: str, update: Any, hidden: set[str], *, called: bool = False) -> Update:
    """Returns the step for an update at `key`; if the document there is hidden, the update inserts,
    as far as its author can see. Raises: ProjectionError."""
    update = checked(key, update, called)
    if key not in hidden:
        return Update(key, update)
    hidden.remove(key)
    on_insert = update.pop("$setOnInsert", {})
    if on_insert:
        update = merged(update, "$set", on_insert)
    return Update(key, merged(update, "$unset", {HIDDEN: ""}))


def merged(update: Document, operator: str, fields: Mapping[str, Any]) -> Document:
    """Returns the update with more fields under an operator."""
    return {**update, operator: {**update.get(operator, {}), **fields}}


def asked(filter: Mapping[str, Any], *, versioned: bool) -> Document:
    """Returns the filter with values in the form that documents keep; if documents are `versioned`,
    it leaves hidden ones out. Raises: ProjectionError."""
    check_mapping(filter)
    try:
        form: Document = stored({**filter})
    except (Unstorable, RecursionError) as error:
        raise _refused("the filter", error) from None
    return {**form, HIDDEN: {"$exists": False}} if versioned else form
