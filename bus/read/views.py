"""Reads documents as views, and refuses views that no document could ever be read as."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError

from bus.common.fingerprint import reason_of
from bus.common.signatures import members
from bus.data.payload import Document
from bus.errors import ConfigurationError, ProjectionError
from bus.stores.collections import Index
from bus.stores.documents.values import LENIENT, unreadable
from bus.stores.indexes import check_indexes
from bus.stores.sink import Sink

View = TypeVar("View", bound=BaseModel)

ID = frozenset(["_id", "id"])
"""The names by which a view may have its document's key."""
PUTTING = frozenset(["$set", "$setOnInsert", "$max", "$min"])
"""Operators that can set a field to the given value."""
ALL_OF = frozenset(["$and", "$or", "$nor"])


def read_as(view: type[View], document: Document) -> View:
    """Returns the document as a view. Raises: ProjectionError, which quotes no value."""
    given = {"id": document["_id"], **document}
    for name in _not_taken(view):
        given.pop(name, None)
    try:
        return view.model_validate(given, **LENIENT)
    except ValidationError as error:
        raise ProjectionError(
            f"the document {document['_id']!r} cannot be read as {view.__name__}: "
            f"{reason_of(error)}; give what a document may lack a default, and have the handlers "
            f"write what the view reads (a raised version= builds the documents anew)"
        ) from None


@lru_cache(maxsize=1000)
def _not_taken(view: type[BaseModel]) -> frozenset[str]:
    """Returns which names of the key a view refuses, because it forbids extra fields."""
    if view.model_config.get("extra") != "forbid":
        return frozenset()
    return ID - {name for field in view.model_fields for name in _names(view, field)}


def _names(view: type[BaseModel], field: str) -> Iterator[str]:
    """Yields the names by which a document may have the field."""
    yield field
    alias = view.model_fields[field].validation_alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, str):
            yield choice


def row_as(kind: type[View], row: Document) -> View:
    """Returns a group of documents as a model. Raises: ProjectionError, which quotes no value."""
    try:
        return kind.model_validate(row, **LENIENT)
    except ValidationError as error:
        raise ProjectionError(
            f"a group cannot be read as {kind.__name__}: {reason_of(error)}; give {kind.__name__} "
            f"the fields {', '.join(row)}, and each what may stand there (None, where documents "
            f"lack the field)"
        ) from None


@lru_cache(maxsize=1000)
def shows_key(view: type[BaseModel]) -> bool:
    """Returns whether the view's `id` is the document's key."""
    return any("id" in _names(view, field) for field in view.model_fields)


def by_key(view: type[BaseModel], filter: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the filter with `_id` for `id` if the view shows the key as `id`."""
    if not shows_key(view):
        return filter
    named = {}
    for path, asked in filter.items():
        if path in ALL_OF and isinstance(asked, list | tuple):
            asked = [by_key(view, part) if isinstance(part, Mapping) else part for part in asked]
        named[key_or(view, path)] = asked
    return named


def key_or(view: type[BaseModel], field: Any) -> Any:
    """Returns `_id` for `id` if the view shows the key as `id`, else the field as it is."""
    return "_id" if field == "id" and shows_key(view) else field


def check_times(view: type[BaseModel], filter: Any) -> None:
    """Raises: ProjectionError if a filter compares a date with datetimes, or the reverse: documents
    keep dates as text and datetimes as instants, so nothing would ever match."""
    kinds = _times(view)
    if not kinds or not isinstance(filter, Mapping):
        return
    for path, asked in filter.items():
        if path in ALL_OF and isinstance(asked, list | tuple):
            for part in asked:
                check_times(view, part)
        elif path in kinds:
            for value in _operands(asked):
                if isinstance(value, date) and kinds[path] is not _time(value):
                    what = f"the filter compares a {_time(value).__name__} with {path!r}"
                    raise ProjectionError(_mixed(view, kinds[path], what, "it would find nothing"))


@lru_cache(maxsize=1000)
def _times(view: type[BaseModel]) -> dict[str, type]:
    """Returns date or datetime for each field of that type, by each of its names."""
    found: dict[str, type] = {}
    for field, info in view.model_fields.items():
        kinds = [kind for kind in members(info.annotation) if kind is not type(None)]
        if kinds in ([date], [datetime]):
            found.update(dict.fromkeys(_names(view, field), kinds[0]))
    return found


def _operands(asked: Any) -> Iterator[Any]:
    if isinstance(asked, Mapping):
        asked = list(asked.values())
    if isinstance(asked, list | tuple | set | frozenset):
        for operand in asked:
            yield from _operands(operand)
    else:
        yield asked


def _time(value: date) -> type:
    return datetime if isinstance(value, datetime) else date


def check_written(view: type[BaseModel], key: str, update: Any) -> None:
    """Raises: ProjectionError if the view would read something else than what an update writes: a
    date in place of a datetime or the reverse, which reads as a moment without a zone or not at
    all, or an `id` that is not the document's key."""
    if type(update) is not dict:
        return
    kinds = _times(view)
    for operator, fields in update.items():
        if type(fields) is not dict:
            continue
        if "id" in fields and operator != "$unset" and shows_key(view) and fields["id"] != key:
            raise ProjectionError(
                f"the update of {key!r}, {operator}, writes id, which in {view.__name__} is the "
                f"document's key; give the field another name"
            )
        if kinds and operator in PUTTING:
            _check_times_put(view, kinds, f"the update of {key!r}, {operator},", fields)


def _check_times_put(
    view: type[BaseModel], kinds: Mapping[str, type], where: str, fields: Mapping[str, Any]
) -> None:
    for path, value in fields.items():
        if isinstance(value, date) and kinds.get(path) not in (None, _time(value)):
            what = f"{where} gives a {_time(value).__name__} to {path!r}"
            why = "it would not be read back as it is"
            raise ProjectionError(_mixed(view, kinds[path], what, why))


def _mixed(view: type[BaseModel], kind: type, what: str, why: str) -> str:
    remedy = "datetime.combine(day, time(), UTC)" if kind is datetime else "value.date()"
    return (
        f"{what}, which is a {kind.__name__} in {view.__name__}; {why}, because documents keep "
        f"dates as text and datetimes as instants: give {remedy}"
    )


def check_place(
    name: str, view: type[BaseModel] | None, sink: Sink | None, indexes: Sequence[Index]
) -> None:
    """Raises: ConfigurationError unless a projection has a possible view, or a sink."""
    where = f"Projection {name!r}"
    if sink is None:
        if view is None:
            raise ConfigurationError(
                f"{where}: say what a reader gets, by view=, or where it is kept, by sink="
            )
        check_view(name, view)
        check_indexes(name, indexes)
        return
    if not isinstance(sink, Sink):
        raise ConfigurationError(
            f"{where}: sink={sink!r:.100} is no sink; give an object of a class of Sink, as in "
            f"sink=SqlTable(table, url=...)"
        )
    if view is not None or indexes:
        what = "view=" if view is not None else "indexes="
        raise ConfigurationError(
            f"{where}: {what} is of MongoDB's documents, and it has a sink; leave it out: "
            f"{type(sink).__name__} declares what it keeps, and is read with its own client"
        )
    if problem := sink.problem_with(name):
        raise ConfigurationError(f"{where}: {problem}")


def check_view(projection: str, view: type[BaseModel]) -> None:
    """Raises: ConfigurationError if it is not a model, or has a field as which no value in a
    document can ever be read."""
    if not (isinstance(view, type) and issubclass(view, BaseModel)):
        raise ConfigurationError(
            f"Projection {projection!r}: view={view!r:.100} is no class of pydantic's BaseModel, "
            f"as which documents are read; declare one with the fields that readers need"
        )
    for path, why in _unreadable_in(view, "", frozenset()):
        raise ConfigurationError(
            f"Projection {projection!r}: {view.__name__}.{path} {why}; docs/projections.md lists "
            f"what documents keep"
        )


def _unreadable_in(
    model: type[BaseModel], prefix: str, seen: frozenset[type]
) -> Iterator[tuple[str, str]]:
    decorators = model.__pydantic_decorators__
    if model in seen or decorators.field_validators or decorators.model_validators:
        return  # validators may accept anything
    for name, info in model.model_fields.items():
        if info.metadata and any(hasattr(entry, "func") for entry in info.metadata):
            continue
        for kind in _kinds(info.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _unreadable_in(kind, f"{prefix}{name}.", seen | {model})
            elif why := unreadable(kind, required=info.is_required()):
                yield f"{prefix}{name}", why


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yields the classes in an annotation, except those with validators of their own."""
    origin = get_origin(annotation)
    if origin is Annotated:
        first, *metadata = get_args(annotation)
        if not any(hasattr(entry, "func") for entry in metadata):
            yield from _kinds(first)
    elif origin is None:
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from _kinds(argument)
