"""What one JSON Schema allows and another does not, in both directions."""

from typing import Any

import pytest

from bus.describe.schemas import differences

STRING, INTEGER, NUMBER, NULL = ({"type": t} for t in ("string", "integer", "number", "null"))


def thing(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def array(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def either(*branches: Any) -> dict[str, Any]:
    return {"anyOf": list(branches)}


def tree(leaf: Any) -> dict[str, Any]:
    node = thing(("leaf",), leaf=leaf, next=either({"$ref": "#/$defs/Node"}, NULL))
    return {"$ref": "#/$defs/Node", "$defs": {"Node": node}}


NARROWED, MISSING, REFUSED, UNCLEAR = (
    [kind] for kind in ("narrowed", "missing", "refused", "unclear")
)
OK: list[str] = []

CASES: dict[str, tuple[Any, Any, list[str], list[str]]] = {
    # name: one, other, what is wrong from one to other, and from other to one
    "equal": (thing(a=STRING), thing(a=STRING), OK, OK),
    "titles": ({**STRING, "title": "A", "default": "x"}, {**STRING, "title": "B"}, OK, OK),
    "type": (INTEGER, STRING, NARROWED, NARROWED),
    "whole number": (INTEGER, NUMBER, OK, NARROWED),
    "nullable": (STRING, either(STRING, NULL), OK, NARROWED),
    "list of types": (STRING, {"type": ["string", "null"]}, OK, NARROWED),
    "union": (either(STRING, INTEGER), either(STRING, INTEGER, NULL), OK, NARROWED),
    "order of a union": (either(STRING, INTEGER), either(INTEGER, STRING), OK, OK),
    "one of": ({"oneOf": [STRING, NULL]}, either(NULL, STRING), OK, OK),
    "anything": (STRING, {}, OK, NARROWED),
    "anything at all": (STRING, True, OK, NARROWED),
    "nothing": (False, STRING, OK, REFUSED),
    "enumeration": ({"enum": ["a"]}, {"enum": ["a", "b"]}, OK, NARROWED),
    "constant": ({"const": "a"}, {"enum": ["a", "b"], "type": "string"}, OK, NARROWED),
    "true is not one": ({"enum": [True]}, {"enum": [1]}, NARROWED, NARROWED),
    "enumeration to text": ({"enum": ["a", "b"], "type": "string"}, STRING, OK, NARROWED),
    "enumeration to number": ({"enum": [1, 2]}, NUMBER, OK, NARROWED),
    "enumeration to bounds": ({"enum": [1]}, {**INTEGER, "minimum": 0}, UNCLEAR, NARROWED),
    "enumeration to union": ({"enum": ["a", 1]}, either(STRING, INTEGER), OK,
                             [*NARROWED, *NARROWED]),
    "optional field": (thing(a=STRING), thing(a=STRING, b=STRING), OK, OK),
    "required field": (thing(a=STRING), thing(("b",), a=STRING, b=STRING), MISSING, OK),
    "field is required now": (thing(a=STRING), thing(("a",), a=STRING), MISSING, OK),
    "renamed field": (thing(("a",), a=STRING), thing(("b",), b=STRING), MISSING, MISSING),
    "type of a field": (thing(a=STRING), thing(a=INTEGER), NARROWED, NARROWED),
    "forbidden fields": (
        {**thing(a=STRING, b=STRING), "additionalProperties": False},
        {**thing(a=STRING), "additionalProperties": False}, REFUSED, OK,
    ),
    "fields are forbidden now": (
        thing(a=STRING), {**thing(a=STRING), "additionalProperties": False}, REFUSED, OK,
    ),
    "values of a mapping": (
        {"type": "object", "additionalProperties": INTEGER},
        {"type": "object", "additionalProperties": NUMBER}, OK, NARROWED,
    ),
    "fields to a mapping": (
        {**thing(a=INTEGER), "additionalProperties": False},
        {"type": "object", "additionalProperties": INTEGER}, OK, REFUSED,
    ),
    "items": (array(INTEGER), array(NUMBER), OK, NARROWED),
    "nested": (thing(a=array(thing(b=INTEGER))), thing(a=array(thing(b=NUMBER))), OK, NARROWED),
    "tuple": (
        {"type": "array", "prefixItems": [STRING, INTEGER], "minItems": 2, "maxItems": 2},
        {"type": "array", "prefixItems": [STRING, NUMBER], "minItems": 2, "maxItems": 2},
        OK, NARROWED,
    ),
    "tuple to list": (
        {"type": "array", "prefixItems": [STRING, STRING], "minItems": 2, "maxItems": 2},
        array(STRING), OK, [*NARROWED, *NARROWED],
    ),
    "longer tuple": (
        {"type": "array", "prefixItems": [STRING], "minItems": 1, "maxItems": 1},
        {"type": "array", "prefixItems": [STRING, STRING], "minItems": 2, "maxItems": 2},
        NARROWED, NARROWED,
    ),
    "minimum": ({**INTEGER, "minimum": 2}, {**INTEGER, "minimum": 1}, OK, NARROWED),
    "maximum": ({**INTEGER, "maximum": 2}, INTEGER, OK, NARROWED),
    "beyond a minimum": (
        {**INTEGER, "exclusiveMinimum": 0}, {**INTEGER, "minimum": 0}, OK, NARROWED,
    ),
    "below a maximum": (
        {**NUMBER, "exclusiveMaximum": 5}, {**NUMBER, "maximum": 5}, OK, NARROWED,
    ),
    "length": ({**STRING, "maxLength": 3}, {**STRING, "maxLength": 9}, OK, NARROWED),
    "shortest": ({**STRING, "minLength": 3}, STRING, OK, NARROWED),
    "items at least": (array(STRING, minItems=1), array(STRING), OK, NARROWED),
    "pattern": ({**STRING, "pattern": "a+"}, STRING, OK, UNCLEAR),
    "other pattern": ({**STRING, "pattern": "a+"}, {**STRING, "pattern": "a*"}, UNCLEAR, UNCLEAR),
    "format": ({**STRING, "format": "uuid"}, STRING, OK, UNCLEAR),
    "multiple": ({**INTEGER, "multipleOf": 4}, {**INTEGER, "multipleOf": 2}, UNCLEAR, UNCLEAR),
    "unheard of": (STRING, {**STRING, "x-rule": 1}, UNCLEAR, OK),
    "all of several": (STRING, {"allOf": [STRING, {"maxLength": 3}]}, UNCLEAR, NARROWED),
    "all of one": ({"allOf": [STRING]}, STRING, OK, OK),
    "reference": (
        {"$ref": "#/$defs/A", "$defs": {"A": STRING}},
        {"$ref": "#/$defs/B", "$defs": {"B": STRING}}, OK, OK,
    ),
    "reference to nowhere": (STRING, {"$ref": "#/$defs/A"}, UNCLEAR, NARROWED),
    "the same name for another": (
        {"$ref": "#/$defs/A", "$defs": {"A": INTEGER}},
        {"$ref": "#/$defs/A", "$defs": {"A": NUMBER}}, OK, NARROWED,
    ),
    "recursion": (tree(INTEGER), tree(NUMBER), OK, NARROWED),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other", "there", "back"), CASES.values(), ids=CASES)
def test_what_does_not_fit_is_found(
    one: Any, other: Any, there: list[str], back: list[str]
) -> None:
    assert [why.kind for why in differences(one, other, closed=False)] == there
    assert [why.kind for why in differences(other, one, closed=False)] == back


def test_of_a_closed_shape_nothing_else_is_written() -> None:
    forbidding = {**thing(a=STRING), "additionalProperties": False}
    assert differences(thing(a=STRING), forbidding, closed=True) == []
    extended = {**thing(a=STRING), "additionalProperties": True}
    assert [why.kind for why in differences(extended, forbidding, closed=True)] == REFUSED


def test_the_path_leads_to_what_does_not_fit() -> None:
    one = thing(jobs=array(thing(pay=either(INTEGER, NULL))))
    other = thing(jobs=array(thing(pay=INTEGER)))
    (why,) = differences(one, other, closed=False)
    assert (why.path, why.what) == ("jobs[].pay", "may be null, and only integer is read")


def test_what_lies_too_deep_is_unclear() -> None:
    one: Any = STRING
    for _ in range(2000):
        one = array(one)
    assert [why.kind for why in differences(one, one, closed=False)] == UNCLEAR
