"""Groups of documents and their totals: which queries of a read collection are valid. No I/O.

MongoDB and the stores in memory give the same answer, so only what both can do is allowed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bus.errors import ProjectionError
from bus.stores.asking import check_count, check_sort

OPERATORS = ("$sum", "$avg", "$min", "$max")
OWN = ("_version", "_hidden")
COUNT: Mapping[str, Any] = {"$sum": 1}


class Total(NamedTuple):
    """What is computed from a field in each group; a `$sum` without a field counts documents."""

    operator: str
    field: str = ""


class Grouping(NamedTuple):
    """Groups of documents with equal fields `by` (one group, if there are none), and `totals`.

    Groups are sorted by `sort` (names of fields or totals), and then by the fields `by`; at most
    `limit` of them, or all if that is 0.
    """

    by: tuple[str, ...]
    totals: Mapping[str, Total]
    sort: tuple[tuple[str, int], ...] = ()
    limit: int = 0

    @property
    def fields(self) -> set[str]:
        """All fields that are read."""
        return {*self.by, *(total.field for total in self.totals.values())}

    @property
    def order(self) -> list[tuple[str, int]]:
        """The sort order of the groups, which leaves no two of them in the same place."""
        named = {name for name, _ in self.sort}
        return [*self.sort, *((field, 1) for field in self.by if field not in named)]


def grouping_of(
    by: str | Sequence[str],
    totals: Mapping[str, Mapping[str, Any]],
    sort: Sequence[tuple[str, Any]],
    limit: int,
) -> Grouping:
    """Returns a valid grouping. Raises: ProjectionError, which says what is not valid."""
    fields = tuple(map(checked_field, [by] if isinstance(by, str) else by))
    checked = {_checked_name(name, fields): _total(name, total) for name, total in totals.items()}
    known = [*fields, *checked]
    check_count("limit", limit, "all")
    if not isinstance(sort, list | tuple) or any(len(pair) != 2 for pair in sort):
        check_sort(sort)
    for name, direction in sort:
        if name not in known or direction not in (1, -1):
            raise ProjectionError(
                f"groups cannot be sorted by ({name!r:.100}, {direction!r:.20}); sort by one of "
                f"{', '.join(known) or 'none'}, and 1 or -1"
            )
    if len(set(fields)) != len(fields) or not known:
        raise ProjectionError("a group is by different fields, or has a total at least")
    return Grouping(fields, checked, tuple((name, direction) for name, direction in sort), limit)


def checked_field(field: Any) -> str:
    """Returns the path of a field. Raises: ProjectionError if it is none, or the bus's own."""
    parts = field.split(".") if isinstance(field, str) else [""]
    if not all(parts) or any(part.startswith("$") or "\0" in part for part in parts):
        raise ProjectionError(
            f"{field!r:.100} is no field; give its name, or a path such as 'owner.city'"
        )
    if parts[0] in OWN:
        raise ProjectionError(f"{parts[0]} is the bus's own field, which nobody reads")
    return str(field)


def _checked_name(name: Any, fields: Sequence[str]) -> str:
    if not isinstance(name, str) or not name.isidentifier() or name in fields:
        raise ProjectionError(
            f"totals: {name!r:.100} is no name for one; use letters, digits and underscores, and "
            f"none of the fields that groups are by"
        )
    return name


def _total(name: str, total: Any) -> Total:
    if total == COUNT and type(total["$sum"]) is int:
        return Total("$sum")
    if isinstance(total, Mapping) and len(total) == 1:
        ((operator, field),) = total.items()
        if operator in OPERATORS and isinstance(field, str) and field.startswith("$"):
            return Total(operator, checked_field(field[1:]))
    raise ProjectionError(
        f"totals: {name} is one of {', '.join(OPERATORS)} of a field, such as "
        f'{{"$sum": "$amount"}}, or {{"$sum": 1}}, which counts'
    )
