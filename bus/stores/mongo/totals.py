"""Groups and totals as a MongoDB pipeline: under names of its own, whatever the fields' names."""

from collections.abc import Mapping
from typing import Any

from bus.data.payload import Document
from bus.stores.grouping import Grouping


def stages_of(grouping: Grouping) -> list[Document]:
    """Returns the stages after the filter."""
    key = {f"k{n}": {"$ifNull": [f"${field}", None]} for n, field in enumerate(grouping.by)}
    totals = {
        f"t{n}": {total.operator: f"${total.field}" if total.field else 1}
        for n, total in enumerate(grouping.totals.values())
    }
    places = {field: f"_id.k{n}" for n, field in enumerate(grouping.by)}
    places |= {name: f"t{n}" for n, name in enumerate(grouping.totals)}
    stages: list[Document] = [{"$group": {"_id": key or None, **totals}}]
    if order := {places[name]: direction for name, direction in grouping.order}:
        stages.append({"$sort": order})
    return [*stages, {"$limit": grouping.limit}] if grouping.limit else stages


def row_of(grouping: Grouping, found: Mapping[str, Any]) -> Document:
    """Returns a group as a row, under the names that were asked for."""
    row = {field: found["_id"][f"k{n}"] for n, field in enumerate(grouping.by)}
    return row | {name: found[f"t{n}"] for n, name in enumerate(grouping.totals)}
