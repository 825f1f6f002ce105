"""Flat models: of text, numbers and booleans alone, which JSON holds as they are.

Writing one needs no conversion, and no reading back to know that it is the same. Reads pydantic's
core schemas; pure.
"""

from collections.abc import Collection, Mapping
from math import isfinite
from types import NoneType
from typing import Any

from bus.data.fields import Schema
from bus.data.payload import LEAST, MOST, Document, is_text

Kinds = Mapping[str, Collection[type]]
"""The types that the values of each field may have."""

SCALARS = {"str": str, "int": int, "float": float, "bool": bool, "none": NoneType}

# Anything else in a schema (an alias, a constraint, a function) may change how a value is made,
# written or read.
OF_MODELS = frozenset(
    {"type", "cls", "config", "custom_init", "metadata", "ref", "root_model", "schema"}
)
OF_CONFIGS = frozenset({"allow_inf_nan", "extra_fields_behavior", "ser_json_inf_nan", "title"})
OF_FIELDS = frozenset({"type", "schema", "metadata"})
OF_DEFAULTS = OF_FIELDS | {"default", "default_factory", "default_factory_takes_data"}


def flat_kinds(model: Schema) -> Kinds:
    """Returns the types of a flat model's values, by field; empty if the model is not flat."""
    if model["type"] != "model" or not model.keys() <= OF_MODELS:
        return {}
    if model.get("custom_init") or model.get("root_model") or not _is_usual(model):
        return {}
    inner = model["schema"]
    if inner["type"] != "model-fields" or inner.get("computed_fields"):
        return {}
    if not all(map(str.isidentifier, inner["fields"])):  # may not be a valid key of a document
        return {}
    kinds = {name: _kinds(field) for name, field in inner["fields"].items()}
    return kinds if all(kinds.values()) else {}


def flat_data(values: Mapping[str, Any], kinds: Kinds) -> Document | None:
    """Returns a flat model's values as its data; None if one has another type, is missing, or is
    one that `payload.check` refuses."""
    if not kinds or values.keys() != kinds.keys():
        return None
    for name, value in values.items():
        kind = type(value)
        if kind is str:
            is_kept = value.isascii() or is_text(value)
        elif kind is int:
            is_kept = LEAST <= value <= MOST
        else:
            is_kept = kind is not float or isfinite(value)
        if not is_kept or kind not in kinds[name]:
            return None
    return dict(values)


def _is_usual(model: Schema) -> bool:
    """Returns whether its objects are frozen, and its configuration does not affect values."""
    config = model.get("config") or {}
    usual = config.keys() <= OF_CONFIGS and config.get("extra_fields_behavior") != "allow"
    return usual and bool(model["cls"].model_config.get("frozen"))


def _kinds(part: Schema) -> frozenset[type]:
    """Returns a field's types; none at all if its value may be anything but a scalar."""
    match part["type"]:
        case "model-field" if part.keys() <= OF_FIELDS:
            return _kinds(part["schema"])
        case "default" if part.keys() <= OF_DEFAULTS:
            return _kinds(part["schema"])
        case "nullable" if part.keys() <= OF_FIELDS:
            of_value = _kinds(part["schema"])
            return of_value | {NoneType} if of_value else of_value
        case kind if kind in SCALARS and part.keys() <= {"type", "metadata"}:
            return frozenset({SCALARS[kind]})
    return frozenset()
