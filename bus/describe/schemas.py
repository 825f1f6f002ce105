"""Compares JSON Schemas: whether one allows all that another allows. Pure.

Knows the keywords that pydantic writes. What it cannot decide it reports as unclear; it never
guesses that something fits.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Schema = Any
"""A JSON Schema: an object, or True (anything) or False (nothing)."""

ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
     "discriminator", "$defs", "$schema", "$id", "$comment"}
)  # fmt: skip
COMPARED = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties", "required",
     "additionalProperties", "items", "prefixItems"}
)  # fmt: skip
LOWER = ("minLength", "minItems", "minProperties")
UPPER = ("maxLength", "maxItems", "maxProperties")
NUMBERS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


class Mismatch(NamedTuple):
    """Why what is written might not be read: the field's `path`, and `what` the matter is.

    "missing": it is required, and may be absent; "refused": a field that may be present is not
    allowed; "narrowed": some values are no longer taken; "unclear": the schemas do not show it.
    """

    kind: Literal["missing", "refused", "narrowed", "unclear"]
    path: str
    what: str


def differences(written: Schema, read: Schema, *, closed: bool) -> list[Mismatch]:
    """Returns why something of the shape `written` might not be read as `read`; empty if it always
    is.

    With `closed`, only the fields that the shape names are written; otherwise there may be others
    wherever it does not forbid them.
    """
    try:
        return list(_Comparison(written, read, closed).compare(written, read, ""))
    except RecursionError:
        return [Mismatch("unclear", "", "what lies so deep")]


class _Comparison:
    """Compares two schemas, each with its own definitions; goes through recursive ones once."""

    def __init__(self, written: Schema, read: Schema, closed: bool) -> None:
        self._written = _defs(written)
        self._read = _defs(read)
        self._closed = closed
        self._under_way: set[tuple[int, int]] = set()

    def compare(self, written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
        written, read = _resolved(written, self._written), _resolved(read, self._read)
        pair = id(written), id(read)
        if pair not in self._under_way:  # else a recursive schema would never end
            self._under_way.add(pair)
            yield from self._compare(written, read, path)
            self._under_way.discard(pair)

    def _compare(self, written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
        if written is False or _is_anything(read):
            return
        if read is False:
            yield Mismatch("refused", path, "is refused")
        elif branches := _branches(written):
            for branch in branches:
                yield from self.compare(branch, read, path)
        elif branches := _branches(read):
            yield from self._any_of(written, branches, path)
        elif "enum" in read:
            yield from _enums(written, read, path)
        elif "enum" in written:
            yield from _values(written["enum"], read, path)
        else:
            yield from self._typed(written, read, path)

    def _any_of(self, written: Schema, branches: Sequence[Schema], path: str) -> Iterator[Mismatch]:
        """Finds nothing if one branch reads all of it; else the likeliest branch says why not."""
        if len(written.get("enum", ())) > 1:
            for value in written["enum"]:
                yield from self._any_of({"enum": [value]}, branches, path)
            return
        found = [list(self.compare(written, branch, path)) for branch in branches]
        if not all(found):
            return
        alike = [
            why
            for why, branch in zip(found, branches, strict=True)
            if _types(_resolved(branch, self._read)) & _types(written)
        ]
        if len(alike) == 1:
            yield from alike[0]
        else:
            read = " or ".join(_described(_resolved(branch, self._read)) for branch in branches)
            yield _narrowed(path, _described(written), read)

    def _typed(self, written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
        own, taken = _types(written), _types(read)
        if "number" in taken:
            taken = taken | {"integer"}
        if taken and (not own or own - taken):
            yield _narrowed(path, _described(written), _described(read))
            return
        yield from _bounds(written, read, path)
        if "object" in (own or {"object"}) and _speaks_of_objects(read):
            yield from self._objects(written, read, path)
        if "array" in (own or {"array"}) and {"items", "prefixItems"} & read.keys():
            yield from self._arrays(written, read, path)
        yield from _others(written, read, path)

    def _objects(self, written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
        own, taken = written.get("properties", {}), read.get("properties", {})
        always, required = written.get("required", ()), read.get("required", ())
        rest = read.get("additionalProperties", True)
        for name in taken:
            if name in own:
                yield from self.compare(own[name], taken[name], _at(path, name))
            if name in required and name not in always:
                may = "may be missing" if name in own else "is missing"
                yield Mismatch("missing", _at(path, name), f"is required, and {may}")
        for name in own.keys() - taken.keys():
            yield from self.compare(own[name], rest, _at(path, name))
        undeclared = written.get("additionalProperties", not self._closed)
        yield from self.compare(undeclared, rest, _at(path, "*"))

    def _arrays(self, written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
        own, taken = written.get("prefixItems", []), read.get("prefixItems", [])
        own_rest, taken_rest = written.get("items", True), read.get("items", True)
        most = written.get("maxItems", math.inf)
        for place in range(max(len(own), len(taken))):
            if place < most:
                entry = own[place] if place < len(own) else own_rest
                other = taken[place] if place < len(taken) else taken_rest
                yield from self.compare(entry, other, f"{path}[{place}]")
        if most > max(len(own), len(taken)):
            yield from self.compare(own_rest, taken_rest, f"{path}[]")


def _defs(schema: Schema) -> Mapping[str, Schema]:
    found: Mapping[str, Schema] = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
    return found


def _ref(schema: Schema) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, Mapping) else ""


def _resolved(schema: Schema, defs: Mapping[str, Schema]) -> Schema:
    """Returns the schema with references and an `allOf` of one resolved, and `const` as `enum`."""
    while name := _ref(schema):
        beside = {k: v for k, v in schema.items() if k != "$ref" and k not in ANNOTATIONS}
        found = defs.get(name.rpartition("/")[2], {"unresolved": name})
        schema = {**found, **beside} if beside else found
    if not isinstance(schema, Mapping):
        return schema and {}
    if len(schema.get("allOf", ())) == 1:
        (part,) = schema["allOf"]
        beside = {key: value for key, value in schema.items() if key != "allOf"}
        return _resolved({**part, **beside}, defs)
    if "const" in schema:
        return {"enum": [schema["const"]]}
    return schema


def _is_anything(schema: Schema) -> bool:
    return schema is True or (isinstance(schema, Mapping) and not schema.keys() - ANNOTATIONS)


def _branches(schema: Schema) -> list[Schema]:
    """Returns the alternatives of a union, each with the keywords beside it."""
    if not isinstance(schema, Mapping):
        return []
    for key in ("anyOf", "oneOf"):
        if key in schema:
            beside = {k: v for k, v in schema.items() if k != key and k not in ANNOTATIONS}
            return [{**beside, **branch} if beside else branch for branch in schema[key]]
    return []


def _types(schema: Schema) -> frozenset[str]:
    """Returns the types that a schema names; none if it allows any."""
    if not isinstance(schema, Mapping):
        return frozenset()
    if "enum" in schema:
        return frozenset(map(_type_of, schema["enum"]))
    named = schema.get("type", ())
    return frozenset([named] if isinstance(named, str) else named)


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _enums(written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
    taken = [_value(value) for value in read["enum"]]
    if "enum" not in written:
        yield _narrowed(path, _described(written), _described(read))
        return
    gone = [value for value in written["enum"] if _value(value) not in taken]
    if gone:
        yield _narrowed(path, _described({"enum": gone}), _described(read))


def _values(values: Sequence[Any], read: Schema, path: str) -> Iterator[Mismatch]:
    taken = _types(read)
    if "number" in taken:
        taken = taken | {"integer"}
    if taken and not _types({"enum": values}) <= taken:
        yield _narrowed(path, _described({"enum": values}), _described(read))
    elif further := sorted(read.keys() - ANNOTATIONS - {"type"}):
        yield Mismatch("unclear", path, f"whether {', '.join(further)} allows each of the values")


def _value(value: Any) -> tuple[str, Any]:
    """Returns a value with its type, because True == 1."""
    return _type_of(value), value


def _bounds(written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
    for key in LOWER:
        if read.get(key, 0) > written.get(key, 0):
            yield _bound(key, written, read, path)
    for key in UPPER:
        if read.get(key, math.inf) < written.get(key, math.inf):
            yield _bound(key, written, read, path)
    lows, highs = ("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)
    for inclusive, exclusive, sign in (lows, highs):
        if _limit(read, inclusive, exclusive, sign) > _limit(written, inclusive, exclusive, sign):
            key = exclusive if exclusive in read else inclusive
            yield _bound(key, written, read, path)


def _limit(schema: Schema, inclusive: str, exclusive: str, sign: int) -> tuple[float, bool]:
    """Returns how strict a limit of numbers is: the greater, the stricter."""
    none = -math.inf
    return max(
        (sign * schema[inclusive] if inclusive in schema else none, False),
        (sign * schema[exclusive] if exclusive in schema else none, exclusive in schema),
    )


def _bound(key: str, written: Schema, read: Schema, path: str) -> Mismatch:
    before = written.get(key, "none")
    return Mismatch("narrowed", path, f"{key} is {read[key]} to the reader, {before} before it")


def _others(written: Schema, read: Schema, path: str) -> Iterator[Mismatch]:
    known = ANNOTATIONS | COMPARED | {*LOWER, *UPPER, *NUMBERS}
    for key in sorted(read.keys() - known):
        if key not in written or written[key] != read[key]:
            yield Mismatch("unclear", path, f"what {key} = {read[key]!r} leaves out")
    if "allOf" in read and written.get("allOf") != read["allOf"]:
        yield Mismatch("unclear", path, "what allOf leaves out")


def _speaks_of_objects(schema: Schema) -> bool:
    return bool({"properties", "required", "additionalProperties"} & schema.keys())


def _narrowed(path: str, written: str, read: str) -> Mismatch:
    return Mismatch("narrowed", path, f"may be {written}, and only {read} is read")


def _described(schema: Schema) -> str:
    """Returns a schema in a few words."""
    if not isinstance(schema, Mapping):
        return "anything"
    if branches := _branches(schema):
        return " or ".join(map(_described, branches))
    if "enum" in schema:
        return " or ".join(map(repr, schema["enum"]))
    if _ref(schema):
        return _ref(schema).rpartition("/")[2]
    kind = " or ".join(sorted(_types(schema))) or "anything"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
