"""The order in which MongoDB sorts values, whatever their types."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from bson import ObjectId


def order_of(value: Any) -> tuple[Any, ...]:
    """Returns where MongoDB sorts a value; the same for what it considers equal."""
    match value:
        case None:
            return (1,)
        case bool():
            return (8, value)
        case int() | float() | Decimal():
            return (2, 1, value) if value == value else (2, 0)  # NaN comes first
        case str():
            return (3, value)
        case Mapping():
            fields = ((order_of(item), name) for name, item in value.items())
            return (4, tuple((order[0], name, order) for order, name in fields))
        case list() | tuple():
            return (5, tuple(map(order_of, value)))
        case bytes():
            return (6, len(value), value)
        case ObjectId():
            return (7, value)
        case datetime():
            return (9, value)
    return (10, type(value).__name__, str(value))
