"""What is written is what is read back, or it is refused: whatever pydantic lets one declare."""

import collections
import dataclasses
import enum
import re
import sys
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NoReturn
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FutureDate,
    FutureDatetime,
    PastDate,
    PlainSerializer,
    PrivateAttr,
    Secret,
    SecretBytes,
    SecretStr,
    ValidationError,
    create_model,
    field_validator,
)
from typing_extensions import TypedDict

from bus.codec import (
    command_frame,
    data_of,
    event_frames,
    new_envelope,
    read_frame,
    read_recorded,
    record,
)
from bus.common import clock
from bus.declare.registry import registry_of
from bus.errors import ConfigurationError, InvalidMessage
from bus.messages import Command, Event, Query
from bus.stores.event_log import Commit
from bus.stores.records import commit_document, commit_from, decoded, encoded
from bus.write.unit_of_work import Outbox
from tests.examples import hundreds


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Place(enum.Enum):
    HERE = (1, 2)
    THERE = "there"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Item(BaseModel):
    name: str = ""
    price: Decimal = Decimal(0)


class Discounted(Item):
    percent: int = 10


class Kept(BaseModel):
    kind: Literal["kept"] = "kept"
    at: datetime


class Named(BaseModel):
    kind: Literal["named"] = "named"
    tags: set[str] = set()


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True)
class Span:
    first: date
    last: date | None = None


class Entry(TypedDict):
    amount: int


SMALL_TEXT = st.text(max_size=5)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
ZONES = st.sampled_from(
    [None, UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=5, seconds=7))]
)
ITEMS = st.builds(Item, name=SMALL_TEXT, price=st.decimals(0, 99, places=2))
TAGGED = st.builds(Kept, at=st.datetimes(timezones=ZONES)) | st.builds(
    Named, tags=st.sets(SMALL_TEXT)
)
ANYTHING = (
    st.none() | st.booleans() | NUMBERS | SMALL_TEXT | st.tuples(NUMBERS) | st.dates() | ITEMS
    | st.lists(st.floats()) | st.dictionaries(NUMBERS | SMALL_TEXT, NUMBERS)
)  # fmt: skip
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, SMALL_TEXT),
    (int, NUMBERS),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (type(None), st.none()),
    (bytes, st.binary(max_size=5)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (uuid.UUID, st.uuids()),
    (date, st.dates()),
    (datetime, st.datetimes(timezones=ZONES)),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Place, st.sampled_from(Place)),
    (Right, st.sampled_from([Right.READ, Right.WRITE, Right.READ | Right.WRITE])),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (Item, ITEMS | st.builds(Discounted, name=SMALL_TEXT)),
    (Annotated[Kept | Named, Field(discriminator="kind")], TAGGED),
    (Point, st.builds(Point, NUMBERS, NUMBERS)),
    (Span, st.builds(Span, st.dates(), st.none() | st.dates())),
    (Entry, st.builds(dict, amount=NUMBERS)),
    (IPv4Address, st.ip_addresses(v=4)),
    (PurePosixPath, st.builds(PurePosixPath, SMALL_TEXT)),
    (Annotated[int, Field(gt=0)], st.integers(1, 9)),
    (Annotated[int, AfterValidator(abs)], NUMBERS),
    (Annotated[int, PlainSerializer(lambda number: number // 2)], st.integers(-9, 9)),
    (Any, ANYTHING),
]  # fmt: skip
Typed = tuple[Any, st.SearchStrategy[Any]]
"""A type, and values of it."""


@st.composite
def _typed(draw: st.DrawFn, depth: int = 2) -> Typed:
    """A type as people write them, and its values."""
    forms = ["leaf"] if depth == 0 else [
        "leaf", "leaf", "list", "tuple", "pair", "set", "dict", "optional", "union", "sequence",
        "mapping", "deque", "default", "model",
    ]  # fmt: skip
    form = draw(st.sampled_from(forms))
    if form == "leaf":
        leaf: Typed = draw(st.sampled_from(LEAVES))
        return leaf
    kind, values = draw(_typed(depth - 1))
    match form:
        case "list":
            return _of(list, kind), st.lists(values, max_size=3)
        case "tuple":
            return _of(tuple, kind, ...), st.lists(values, max_size=3).map(tuple)
        case "pair":
            return _of(tuple, kind, int), st.tuples(values, NUMBERS)
        case "set":
            kind, values = draw(st.sampled_from(LEAVES[:17]))
            form_of_set = draw(st.sampled_from([set, frozenset]))
            return _of(form_of_set, kind), st.sets(values, max_size=3).map(form_of_set)
        case "dict":
            key, keys = draw(st.sampled_from(LEAVES[:17] + LEAVES[-1:]))
            return _of(dict, key, kind), st.dictionaries(
                keys.filter(_is_hashable), values, max_size=3
            )
        case "optional":
            return kind | None, st.none() | values
        case "union":
            other, more = draw(_typed(depth - 1))
            return kind | other, values | more
        case "sequence":
            return _of(Sequence, kind), st.lists(values, max_size=3) | st.lists(
                values, max_size=3
            ).map(tuple)
        case "mapping":
            return _of(Mapping, str, kind), st.dictionaries(SMALL_TEXT, values, max_size=3)
        case "deque":
            return _of(collections.deque, kind), st.lists(values, max_size=3).map(collections.deque)
        case "default":
            return collections.defaultdict[str, int], st.dictionaries(SMALL_TEXT, NUMBERS)
    inner = create_model("Inner", held=(kind, ...))
    return inner, values.map(lambda value: inner(held=value))


def _of(form: Any, *kinds: Any) -> Any:
    return form[kinds if len(kinds) > 1 else kinds[0]]


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@st.composite
def _events(draw: st.DrawFn) -> Event:
    """An event of a class of its own, with one to three fields."""
    typed = draw(st.lists(_typed(), min_size=1, max_size=3))
    fields: Any = {f"field_{place}": (kind, ...) for place, (kind, _) in enumerate(typed)}
    values = {f"field_{place}": draw(values) for place, (_, values) in enumerate(typed)}
    kind = create_model("Made", __base__=Event, **fields)
    try:
        return kind(**values)
    except (ValidationError, TypeError):  # what its own type does not take: of no interest here
        assume(False)
        raise


def _exact(value: Any) -> Any:
    """A value as plain tuples that tell all types apart, whatever `==` says of them."""
    match value:
        case BaseModel():
            return type(value).__qualname__, _exact(value.__dict__)
        case datetime() | time():
            return type(value).__name__, value.isoformat()
        case Mapping():
            return type(value).__name__, sorted(
                ((_exact(k), _exact(v)) for k, v in value.items()), key=repr
            )
        case set() | frozenset():
            return type(value).__name__, sorted(map(_exact, value), key=repr)
        case list() | tuple() | collections.deque():
            return type(value).__qualname__, [_exact(one) for one in value]
    return type(value).__qualname__, repr(value)


def _stored(event: Event) -> Commit:
    """The commit that holds the event, as the log gives it back."""
    commit = Commit(
        "c1", "made-1", "made", 1, (record(event),), clock.now(), "c1", None, {}
    )  # fmt: skip
    return commit_from(decoded(encoded(commit_document(commit))))


@settings(
    max_examples=hundreds(10),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(_events())
def test_an_event_is_read_back_as_it_was_written_or_refused(written: Event) -> None:
    try:
        commit = _stored(written)
    except InvalidMessage:
        event("refused")
        return
    event("stored")
    registry = {"Made": type(written)}
    (frame,) = event_frames(commit)
    assert _exact(read_recorded(commit.events[0], registry)) == _exact(written)
    assert _exact(read_frame(frame, registry).message) == _exact(written)


HOLD = [(kind, values) for kind, values in LEAVES if kind in (
    str, int, float, bool, Decimal, uuid.UUID, date, timedelta, Colour, Size, Span, IPv4Address
)]  # fmt: skip


@settings(max_examples=hundreds(2), deadline=None)
@given(st.data())
def test_what_people_write_every_day_is_never_refused(data: st.DataObject) -> None:
    kind, values = data.draw(st.sampled_from(HOLD))
    value = data.draw(values)
    made = create_model(
        "Made",
        __base__=Event,
        one=(kind, ...),
        maybe=(kind | None, None),
        many=(_of(list, kind), []),
        fixed=(_of(tuple, kind, ...), ()),
        by_name=(_of(dict, str, kind), {}),
    )
    written = made(one=value, many=[value], fixed=(value,), by_name={"a": value})
    assert read_recorded(record(written), {"Made": made}) == written


@pytest.mark.parametrize("zone", [None, UTC, ZoneInfo("Europe/Berlin")])
def test_times_are_read_back_as_the_same_instant(zone: Any) -> None:
    class Made(Event):
        at: datetime

    written = Made(at=datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=1))
    read = read_recorded(record(written), {"Made": Made})
    assert isinstance(read, Made)
    assert read.at.isoformat() == written.at.isoformat()


# What no value could make good is refused at the class.


class Secretive(BaseModel):
    pin: SecretStr


@dataclasses.dataclass
class SecretiveToo:
    pin: SecretBytes


class Renamed(BaseModel):
    amount: int = Field(serialization_alias="sum")


class OneWay(TypedDict):
    amount: Annotated[int, Field(validation_alias="sum")]


class LiteralWithin(BaseModel):
    place: Literal[Place.HERE]


class Undescribed: ...


class Anything(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    held: Undescribed


@dataclasses.dataclass
class HoldingUndescribed:
    again: "HoldingUndescribed | None"
    first: Undescribed


class OldTypedDict(typing.TypedDict):
    held: int


NEVER: list[tuple[Any, str]] = [
    (SecretStr, "held is a secret"),
    (list[SecretBytes] | None, "held is a secret"),
    (dict[str, Secret[int]], "held is a secret"),
    (Secretive, "held.pin is a secret"),
    (list[SecretiveToo], "held.pin is a secret"),
    (Renamed, "held.amount is written as 'sum' and read as 'amount'"),
    (OneWay, "held.amount is written as 'amount' and read as 'sum'"),
    (Annotated[int, Field(serialization_alias="sum")], "held is written as 'sum' and read as 'hel"),
    (Annotated[int, Field(validation_alias="sum")], "held is written as 'held' and read as 'sum'"),
    (
        Annotated[int, Field(validation_alias=AliasPath("a", 1))],
        "held is written as 'held' and read as a path",
    ),
    (Annotated[int, Field(exclude=True)], "held has exclude=True"),
    (Iterable[int], "held can be gone through only once"),
    (Literal[Place.HERE], "held is a Literal of Place.HERE, which is written as its value"),
    (list[Literal["a", Place.HERE]] | None, "held is a Literal of Place.HERE, which is written"),
    (dict[str, Literal[b"a"]], "held is a Literal of b'a', which is written"),
    (LiteralWithin, "held.place is a Literal of Place.HERE"),
    (Anything, "held.held is of a type that pydantic only knows by name; make it a"),
    (Undescribed, "held is Undescribed, which pydantic can neither write nor read; make it a"),
    (list[Undescribed | None], "held is Undescribed, which pydantic can neither write nor read"),
    (dict[str, Annotated[Undescribed, "a"]], "held is Undescribed, which pydantic can neither"),
    (HoldingUndescribed, "held.first is Undescribed, which pydantic can neither write nor read"),
    (Callable[[], int], "held is of a type that pydantic only knows by name"),
    (list[type[int]], "held is of a type that pydantic only knows by name"),
    (
        list[Annotated[int, BeforeValidator(PurePosixPath)]],
        "held cannot be taken as it is declared; pydantic",
    ),
    (NoReturn, "held is NoReturn, which pydantic can neither write nor read"),
]
if sys.version_info < (3, 12):
    NEVER += [
        (
            OldTypedDict,
            "held is OldTypedDict, a TypedDict of typing, which tells pydantic too littl",
        ),
        (list[OldTypedDict], "held is OldTypedDict, a TypedDict of typing, which tells pydantic"),
    ]


@pytest.mark.parametrize("base", [Command, Event])
@pytest.mark.parametrize(("kind", "why"), NEVER)
def test_a_field_that_could_never_be_read_back_is_refused_at_the_class(
    base: type[Command | Event], kind: Any, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"test_round_trips.Made: {re.escape(why)}"):
        create_model("Made", __base__=base, __module__=__name__, held=(kind, ...))


def test_a_type_of_a_querys_field_that_pydantic_knows_nothing_of_is_told_too() -> None:
    with pytest.raises(ConfigurationError, match=r"Find: held is Undescribed, which pydantic can"):

        class Find(Query[int]):
            held: Undescribed


HERE = Undescribed()
READ_OTHERWISE = [
    (Annotated[Literal[Place.HERE], BeforeValidator(lambda _: Place.HERE)], Place.HERE),
    (
        Annotated[
            pydantic.InstanceOf[Undescribed],
            BeforeValidator(lambda _: HERE),
            PlainSerializer(lambda _: "here"),
        ],
        HERE,
    ),
    (Literal[Colour.RED, Size.SMALL], Colour.RED),
    (Literal[Colour.RED, Size.SMALL], Size.SMALL),
]


@pytest.mark.parametrize(("kind", "value"), READ_OTHERWISE)
def test_what_its_author_reads_otherwise_is_taken(kind: Any, value: Any) -> None:
    made = create_model("Made", __base__=Event, held=(kind, ...))
    written = made(held=value)
    assert read_recorded(record(written), {"Made": made}) == written


BOTH_WAYS = [
    Annotated[int, Field(alias="sum")],
    Annotated[int, Field(validation_alias=AliasChoices("held", "sum"))],
    Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value())],
]


@pytest.mark.parametrize("kind", BOTH_WAYS)
def test_a_field_that_is_read_as_it_is_written_is_taken(kind: Any) -> None:
    made = create_model("Made", __base__=Event, held=(kind, ...))
    written = made.model_validate(
        {"held": "12"} if "sum" not in str(kind) else {"sum": "12", "held": "12"}
    )
    assert read_recorded(record(written), {"Made": made}) == written


class Grown(Event):
    inner: "Later"


class Later(BaseModel):
    pin: SecretStr


def test_what_names_a_class_that_comes_later_is_refused_when_it_is_registered() -> None:
    with pytest.raises(ConfigurationError, match=r"Grown: inner.pin is a secret"):
        registry_of("orders", [Grown])


def test_a_query_is_never_written_so_that_it_may_hold_a_secret() -> None:
    class Find(Query[str]):
        pin: SecretStr = Field(exclude=True)

    assert Find(pin=SecretStr("1")).pin.get_secret_value() == "1"


# What only a value tells is refused with the field, before it is stored.


class Order(Event):
    item: Item = Item()
    more: list[Item] = []  # noqa: RUF012
    meta: Any = None
    quantity: Annotated[int, Field(gt=0)] = 1
    at: datetime | None = None
    parts: Sequence[int] = []


LOST = [
    ({"item": Discounted()}, "item is of type Discounted, and would be read as Item, without what"),
    ({"more": [Item(), Discounted()]}, "more.1 is of type Discounted"),
    ({"meta": (1, 2)}, "meta is of type tuple, and would be read as list"),
    ({"meta": {"a": [{1}]}}, "meta.a.0 is of type set, and would be read as list"),
    ({"meta": {1: 2}}, "meta has a key of type int"),
    ({"meta": Item()}, "meta is of type Item, and would be read as dict"),
    ({"meta": date(2026, 1, 1)}, "meta is of type date, and would be read as str"),
    ({"parts": (1, 2)}, "parts is of type tuple, and would be read as list"),
    ({"at": datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))}, "at has a zone whose offset"),
]


class Queued(Event):
    last: collections.deque[int] = collections.deque()  # noqa: RUF012
    counts: collections.defaultdict[str, int] = collections.defaultdict(int)  # noqa: RUF012


class Timed(Event):
    model_config = ConfigDict(ser_json_temporal="seconds")

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


class Held(BaseModel):
    model_config = ConfigDict(ser_json_temporal="milliseconds")

    at: datetime


class Holding(Event):
    held: list[Held]


@dataclasses.dataclass
class Noted:
    text: str


def noted(**more: Any) -> Noted:
    """A note with attributes that are no fields of it."""
    made = Noted("a")
    vars(made).update(more)
    return made


class Remarked(Event):
    note: Noted


IN_BERLIN = datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))


class Numbered(Event):
    held: tuple[float, ...] | tuple[int, ...]


LOST_BESIDE = [
    (Numbered, {"held": (0, 1)}, "held.0 is of type int, and would be read as float"),
    (Queued, {"last": collections.deque([1, 2], maxlen=2)}, "last has maxlen=2, and would be read"),
    (Queued, {"counts": collections.defaultdict(lambda: 7)}, "counts would be read with another d"),
    (Remarked, {"note": noted(by="Ada")}, "note.by would not be read back"),
]
if "ser_json_temporal" in ConfigDict.__annotations__:  # since pydantic 2.12
    LOST_BESIDE += [
        (Timed, {"at": IN_BERLIN}, "at has a zone that is not written; give it in UTC"),
        (Holding, {"held": [Held(at=IN_BERLIN)]}, "held.0.at has a zone that is not written"),
    ]


@pytest.mark.parametrize(("kind", "values", "why"), LOST_BESIDE)
def test_what_equals_and_is_not_the_same_is_refused_with_its_field(
    kind: type[Event], values: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidMessage, match=f"{kind.__name__}: {re.escape(why)}"):
        record(kind(**values))


def test_what_is_written_whole_though_it_could_be_lost_is_taken() -> None:
    for written in (
        Numbered(held=(0.5, 1.0)),
        Queued(last=collections.deque([1])),
        Queued(counts=collections.defaultdict(int, a=1)),
        Timed(at=IN_BERLIN.astimezone(UTC)),
        Remarked(note=noted(_cached="a")),
    ):
        assert read_recorded(record(written), {written.wire_name: type(written)}) == written


@pytest.mark.parametrize(("values", "why"), LOST)
def test_a_value_that_would_be_read_as_another_is_refused_with_its_field(
    values: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidMessage, match=f"Order: {re.escape(why)}"):
        record(Order(**values))


def test_what_was_never_validated_is_refused_where_it_could_not_be_read() -> None:
    with pytest.raises(InvalidMessage, match="quantity: Input should be greater than 0"):
        record(Order().model_copy(update={"quantity": -1}))
    with pytest.raises(InvalidMessage, match="quantity: Input should be a valid integer"):
        record(Order().model_copy(update={"quantity": "many"}))


class Sealed(BaseModel):
    seal: bytes


@dataclasses.dataclass
class Boxed:
    held: dict[str, Any]


class Enclosed(Event):
    text: str = ""
    seal: bytes | None = None
    sealed: list[Sealed] = []  # noqa: RUF012
    meta: Any = None


BY_BASE64 = 'model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")'
UNWRITTEN = [
    ({"seal": b"\xff"}, f"seal: .*; bytes are written as text: .* in Enclosed, with {BY_BASE64}"),
    (
        {"sealed": [Sealed(seal=b"a"), Sealed(seal=b"\xff")]},
        "sealed.1.seal: .* in Sealed, with mod",
    ),
    ({"meta": {"a": [1, b"\xff"]}}, "meta.a.1: .*declare a field of bytes in Enclosed, with model"),
    ({"meta": Boxed({"b": b"\xff"})}, "meta.held.b: .*declare a field of bytes in Enclosed"),
    ({"meta": [object()]}, "meta.0: Unable to serialize unknown type: .*; give its field a type"),
]


@pytest.mark.parametrize(("values", "told"), UNWRITTEN)
def test_what_cannot_be_written_is_refused_with_its_field_and_a_remedy(
    values: dict[str, Any], told: str
) -> None:
    told = re.escape(told).replace(r"\.\*", ".*")
    with pytest.raises(InvalidMessage, match=f"Enclosed cannot be written as JSON: {told}"):
        record(Enclosed(**values))


class InBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    seal: bytes = b"\xff\xfe"
    more: list[bytes | None] = [b"\x00\xff", b"", b"a", None]
    by_name: dict[str, bytes] = {"a": bytes(range(256))}


class Closed(InBase64, Event):
    within: InBase64 = InBase64()


class Close(InBase64, Command):
    within: InBase64 = InBase64()


def test_bytes_are_read_back_by_the_remedy_that_is_told() -> None:
    commit, registry = _stored(Closed()), {"Closed": Closed}
    (frame,) = event_frames(commit)
    assert _exact(read_recorded(commit.events[0], registry)) == _exact(Closed())
    assert _exact(read_frame(frame, registry).message) == _exact(Closed())
    sent = command_frame(new_envelope(Close()))
    assert _exact(read_frame(sent, {"Close": Close}).message) == _exact(Close())


# What a message is told that could not be read back is true of it.


class Prefixed(Event):
    text: str

    @field_validator("text", mode="before")
    @classmethod
    def without_prefix(cls, text: Any) -> Any:
        if not text.startswith("raw:"):
            raise ValueError("it has no prefix")
        return text.removeprefix("raw:")


class Growing(Event):
    text: str
    parts: list[int] = []  # noqa: RUF012

    @field_validator("text")
    @classmethod
    def with_mark(cls, text: str) -> str:
        return f"{text}!" if text else ""

    @field_validator("parts")
    @classmethod
    def with_one(cls, parts: list[int]) -> list[int]:
        return [*parts, 1] if parts else []


class TakingTuples(Event):
    pair: Annotated[
        Any, BeforeValidator(lambda pair: tuple(pair) if type(pair) is tuple else 1 / 0)
    ]


class Defaulting(Event):
    number: int = "many"  # type: ignore[assignment]


def changed() -> Order:
    order = Order(more=[Item()])
    order.more.append("item")  # type: ignore[arg-type]
    return order


NOT_TAKEN = "does not take these values: they were changed since it was made, or "
TRUE_OF_IT = [
    (lambda: Order().model_copy(update={"quantity": -1}), f"Order(...) {NOT_TAKEN}"),
    (lambda: Order.model_construct(quantity=-1), f"Order(...) {NOT_TAKEN}"),
    (changed, f"Order(...) {NOT_TAKEN}"),
    (lambda: Prefixed(text="raw:a"), "or what a validator makes and refuses"),
    (Defaulting, "or they are a default of another type"),
    (lambda: Growing(text="a"), "text would be read as another value; let the validators and"),
    (lambda: Growing(text="", parts=[1]), "parts would be read with more or fewer entries; let th"),
    (lambda: TakingTuples(pair=(1, 2)), "takes its values, and not what is written of them: let"),
]


@pytest.mark.parametrize(("make", "told"), TRUE_OF_IT)
def test_what_is_told_of_what_could_not_be_read_back_is_true(
    make: Callable[[], Event], told: str
) -> None:
    with pytest.raises(InvalidMessage, match=re.escape(told)):
        record(make())


def test_what_is_private_to_an_object_does_not_count() -> None:
    class Cached(BaseModel):
        text: str
        _lock: object = PrivateAttr(default_factory=object)

    class Made(Event):
        held: Cached

    written = Made(held=Cached(text="a"))
    read = read_recorded(record(written), {"Made": Made})
    assert isinstance(read, Made)
    assert read.held.text == "a"


def test_a_command_is_refused_where_it_is_sent() -> None:
    class Take(Command):
        item: Item

    with pytest.raises(InvalidMessage, match="Take: item is of type Discounted"):
        Outbox("k1").send(Take(item=Discounted()))


def test_what_a_cached_property_keeps_does_not_count() -> None:
    class Summed(BaseModel):
        numbers: list[int]

        @cached_property
        def total(self) -> int:
            return sum(self.numbers)

    class Made(Event):
        held: Summed

        @cached_property
        def twice(self) -> int:
            return 2 * self.held.total

    written = Made(held=Summed(numbers=[1, 2]))
    assert written.twice == 6
    read = read_recorded(record(written), {"Made": Made})
    assert isinstance(read, Made)
    assert read.held.numbers == [1, 2]


class Waiting(Event):
    later: "Thing"


class WaitingToo(Waiting):
    more: "Thing"


class Thing(BaseModel):
    anything: Any = None
    pin: SecretStr | None = None


def test_a_class_that_was_completed_by_its_first_use_is_looked_at_when_it_is_registered() -> None:
    for kind, values in ((Waiting, {"later": {}}), (WaitingToo, {"later": {}, "more": {}})):
        kind.model_validate(values)
        assert not kind.wire_plain
        with pytest.raises(ConfigurationError, match=r"later.pin is a secret"):
            registry_of("orders", [kind])


class Entity(BaseModel):
    id: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entity) and other.id == self.id

    __hash__ = None  # type: ignore[assignment]


class Special(Entity):
    discount: int = 5


def test_a_models_own_word_on_being_equal_hides_nothing() -> None:
    class Made(Event):
        who: Entity

    with pytest.raises(InvalidMessage, match="who is of type Special, and would be read as Entity"):
        record(Made(who=Special(id="a", discount=9)))


@pytest.mark.parametrize("value", [date(2026, 1, 1), (1, 2), Decimal("1.5"), b"a"])
def test_what_is_more_than_the_declared_fields_is_looked_at_too(value: Any) -> None:
    class Hook(Event, extra="allow"):
        name: str

    kept = Hook.model_validate({"name": "a", "more": [1, "b"]})
    assert read_recorded(record(kept), {"Hook": Hook}) == kept
    with pytest.raises(InvalidMessage, match="Hook: more is of type"):
        record(Hook.model_validate({"name": "a", "more": value}))


class Frozen(datetime):
    """As tests that hold the clock put in its place."""


def test_defaults_and_held_clocks_are_read_as_what_they_stand_for() -> None:
    class Rated(Event):
        stars: float = 0
        at: datetime
        meta: dict[str, Any] = {}  # noqa: RUF012

    written = Rated.model_construct(at=Frozen(2026, 1, 1, tzinfo=UTC))
    assert record(Rated(at=written.at)).data["stars"] == 0


@pytest.mark.parametrize("kind", [FutureDatetime, FutureDate | None, list[FutureDatetime]])
def test_an_event_that_could_be_read_for_a_while_only_is_refused_at_the_class(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="held has to be in the future, so that the event"):
        create_model("Booked", __base__=Event, held=(kind, ...))
    create_model("Book", __base__=Command, held=(kind, ...))
    create_model("Born", __base__=Event, held=(PastDate, ...))


@pytest.mark.parametrize("base", [Command, Event])
def test_a_field_that_is_missing_is_read_back_as_missing(base: type[Command] | type[Event]) -> None:
    missing = getattr(pydantic, "MISSING", None)
    if missing is None:
        pytest.skip("pydantic has MISSING since 2.12, and under this name since 2.14")
    some: Any = (str | None | missing, missing)
    within = create_model("Within", name=some, city=some)
    kind: Any = create_model(
        "Changed", __base__=base, id=(str, ...), name=some, city=some, other=within
    )
    given: Any = kind(id="a", name=None, other=within(city="B"))
    data = data_of(given)
    assert data == {"id": "a", "name": None, "other": {"city": "B"}}
    read = kind.model_validate(data)
    assert read == given
    assert read.model_dump(exclude_unset=True) == data
