"""Which indexes a read collection may have, so that MongoDB creates them all. No I/O."""

from collections.abc import Sequence
from typing import Any

from bus.errors import ConfigurationError
from bus.stores.collections import Index

SPECIAL = frozenset(["text", "hashed", "2d", "2dsphere"])
EVERY_FIELD = "$**"
MOST_FIELDS = 32


def check_indexes(projection: str, indexes: Any) -> None:
    """Raises: ConfigurationError for what is not a list of indexes, or has one that MongoDB would
    not create."""
    listed = isinstance(indexes, list | tuple) and not isinstance(indexes, Index)
    for index in indexes if listed else [indexes]:
        if not listed or not isinstance(index, Index) or not _is_keys(index.keys):
            raise ConfigurationError(
                f"Projection {projection!r}: indexes={indexes!r:.200}: write a list of "
                f'Index, each with pairs of a field and 1, -1 or "text", as in '
                f'[Index((("owner", 1),))], with a comma after a pair that is alone'
            )
    for place, index in enumerate(indexes):
        if problem := _refused(index) or _beside(index, indexes[:place]):
            raise ConfigurationError(
                f"Projection {projection!r}: indexes=[...{index!r:.200}...]: {problem}"
            )


def _is_keys(keys: Any) -> bool:
    return (
        isinstance(keys, tuple | list)
        and bool(keys)
        and all(isinstance(pair, tuple | list) and _is_key(*pair) for pair in keys)
    )


def _is_key(path: Any = "", kind: Any = None, *more: Any) -> bool:
    """Returns whether MongoDB has indexes of this kind."""
    known = kind in SPECIAL if isinstance(kind, str) else type(kind) is int and abs(kind) == 1
    return isinstance(path, str) and bool(path) and known and not more


def _refused(index: Index) -> str:
    """Returns why MongoDB would not create an index; empty if it would."""
    for path, kind in index.keys:
        if not _is_path(path, kind):
            return (
                f"{path!r} is no path to a field, such as owner.city: no name in it may be "
                f"empty, begin with $ or hold a nul; correct it"
            )
    paths, kinds = zip(*index.keys, strict=True)
    special = [kind for kind in kinds if kind in SPECIAL]
    if len(set(paths)) < len(paths):
        return "it names a field twice; name it once"
    if len(paths) > MOST_FIELDS:
        return f"it has {len(paths)} fields, and MongoDB takes {MOST_FIELDS}; leave some out"
    if len(set(special)) > 1 or special.count("hashed") > 1:
        return f"{' and '.join(special)} cannot be in one index; declare one for each"
    if "2d" in kinds[1:]:
        return "2d is for the first field of an index alone; put that in front"
    if paths == ("_id",) and (index.unique or kinds == (-1,)):
        return "MongoDB itself has an index of _id, unique and for both directions; leave it out"
    if index.unique and "hashed" in special:
        return "a hashed index cannot be unique; let it be 1 in place of hashed"
    return ""


def _beside(index: Index, others: Sequence[Index]) -> str:
    """Returns why MongoDB would not create an index beside the others; empty if it would."""
    for other in others:
        if _name(index) == _name(other):
            same = list(map(tuple, index.keys)) == list(map(tuple, other.keys))
            return (
                "an index of these fields is listed before it; take one out"
                if same
                else f"MongoDB would name it as it does {other!r:.100}; rename a field"
            )
        if _is_text(index) and _is_text(other):
            return (
                f"MongoDB makes one text index for a collection, and {other!r:.100} is listed "
                f"before it; put the fields of both into one"
            )
    return ""


def _is_path(path: str, kind: int | str) -> bool:
    if path == EVERY_FIELD:
        return kind in (1, "text")
    names = path.removesuffix(f".{EVERY_FIELD}").split(".") if kind == 1 else path.split(".")
    return all(name and not name.startswith("$") and "\0" not in name for name in names)


def _is_text(index: Index) -> bool:
    return any(kind == "text" for _, kind in index.keys)


def _name(index: Index) -> str:
    """Returns an index's name, by the driver's rule."""
    return "_".join(f"{path}_{kind}" for path, kind in index.keys)
