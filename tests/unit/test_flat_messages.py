"""Flat messages are written as they stand, and nothing that has a say in that is passed over."""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    computed_field,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema

from bus import Aggregate, Event, InvalidMessage
from bus.codec import data_of, record_and_read


class Flat(Event):
    text: str
    number: int
    part: float
    is_so: bool
    maybe: str | None = None
    either: Annotated[int | None, "a note"] = None
    made: str = Field(default_factory=str, description="made")


def flat(**values: Any) -> Flat:
    return Flat(**{"text": "ä:b", "number": -1, "part": 0.5, "is_so": True, **values})


class Size(StrEnum):
    SMALL = "small"


class Aliased(Event):
    text: str = Field(alias="Text")


class Bounded(Event):
    text: str = Field(max_length=3)


class Checked(Event):
    text: Annotated[str, AfterValidator(str.upper)]


class Validated(Event):
    text: str

    @field_validator("text")
    @classmethod
    def upper(cls, text: str) -> str:
        return text.upper()


class ValidatedWhole(Event):
    text: str

    @model_validator(mode="before")
    @classmethod
    def read(cls, data: Any) -> Any:
        return data


class Written(Event):
    text: Annotated[str, PlainSerializer(str.upper)]


class WrittenWhole(Event):
    text: str

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"text": self.text}


class Stripped(Event):
    model_config = ConfigDict(str_strip_whitespace=True)
    text: str


class Open(Event):
    model_config = ConfigDict(extra="allow")
    text: str


class Private(Event):
    text: str
    _seen: int = PrivateAttr(0)


class AfterInit(Event):
    text: str

    def model_post_init(self, context: Any) -> None:
        object.__setattr__(self, "text", self.text.upper())


class OwnInit(Event):
    text: str

    def __init__(self, text: str) -> None:
        super().__init__(text=text)


class Computed(Event):
    text: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.text)


class Many(Event):
    texts: list[str]


class Chosen(Event):
    text: Literal["a"]


class Sized(Event):
    size: Size


class Either(Event):
    number: int | float


class Anything(Event):
    text: Any


class Within(Event):
    flat: Flat


class Loose(Event):
    model_config = ConfigDict(frozen=False)
    text: str


class Described(Event):
    text: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        fields = core_schema.model_fields_schema(
            {"text": core_schema.model_field(core_schema.str_schema(to_upper=True))}
        )
        return core_schema.model_schema(cls, fields)


def keyed(name: str, key: str) -> Any:
    fields: dict[str, Any] = {key: (str, ...)}
    return create_model(name, __base__=Event, **fields)


Priced, Spaced = keyed("Priced", "$price"), keyed("Spaced", "a b")


@pytest.mark.parametrize(
    "kind",
    [
        Aliased, Bounded, Checked, Validated, ValidatedWhole, Written, WrittenWhole, Stripped,
        Open, Private, AfterInit, OwnInit, Computed, Many, Chosen, Sized, Either, Anything, Within,
        Loose, Described, Priced, Spaced,
    ],
)  # fmt: skip
def test_what_has_a_say_in_reading_or_writing_is_not_flat(kind: type[Event]) -> None:
    assert not kind.wire_flat


def test_a_subclass_is_flat_by_its_own_fields() -> None:
    class More(Flat):
        more: list[int]

    class Renamed(Flat):
        another: str = "x"

    assert not More.wire_flat
    assert Renamed.wire_flat.keys() == Renamed.model_fields.keys()


@pytest.mark.parametrize("values", [{}, {"maybe": "x", "either": 2**63 - 1, "made": "m"}])
def test_what_is_flat_is_written_as_pydantic_writes_it(values: dict[str, Any]) -> None:
    event = flat(**values)
    assert event.wire_flat
    recorded, read = record_and_read(event)
    assert recorded.data == event.model_dump(mode="json", by_alias=True, round_trip=True)
    assert recorded.data is not event.__dict__
    assert read == event
    assert read.model_fields_set == set(Flat.model_fields)


class Text(str):
    pass


class Cached(Event):
    text: str

    @cached_property
    def size(self) -> int:
        return len(self.text)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"number": 2**63}, "more than 64 bits"),
        ({"part": float("nan")}, "NaN"),
        ({"text": "\ud800"}, "surrogate"),
        ({"number": "no number"}, "number"),
        ({"is_so": None}, "is_so"),
    ],
)
def test_values_that_cannot_be_are_refused_all_the_same(
    values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidMessage, match=problem):
        data_of(Flat.model_construct(**{**flat().__dict__, **values}))


@pytest.mark.parametrize("values", [{"number": True}, {"text": Text("a")}, {"part": 1}])
def test_values_of_other_types_go_the_long_way(values: dict[str, Any]) -> None:
    event = Flat.model_construct(**{**flat().__dict__, **values})
    written = event.model_dump(mode="json")
    (name,) = values
    assert data_of(event) == written
    _, read = record_and_read(event)
    assert type(getattr(read, name)) is type(getattr(flat(), name))


def test_a_field_that_is_not_there_is_refused() -> None:
    values: dict[str, Any] = {"text": "a"}
    with pytest.raises(InvalidMessage):
        data_of(Flat.model_construct(**values))


def test_what_was_looked_up_once_is_not_written() -> None:
    event = Cached(text="abc")
    assert event.size == 3
    assert data_of(event) == {"text": "abc"}


def test_what_is_applied_has_all_its_fields_set_as_when_it_is_read() -> None:
    class Seen(Aggregate, events=[Flat]):
        def apply(self, event: Event) -> None:
            self.fields = event.model_fields_set

    seen = Seen("1")
    seen.record(flat())
    assert seen.fields == set(Flat.model_fields)


def test_a_key_that_no_document_may_have_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="begins with"):
        data_of(Priced(**{"$price": "1"}))


def test_what_may_be_changed_once_it_is_recorded_is_applied_as_it_was() -> None:
    class Seen(Aggregate, events=[Loose]):
        def apply(self, event: Event) -> None:
            match event:
                case Loose():
                    self.event = event

    seen, event = Seen("1"), Loose(text="a")
    seen.record(event)
    object.__setattr__(event, "text", "b")
    assert (seen.event.text, seen.recorded_data[0].data) == ("a", {"text": "a"})
