"""Views: what they read of documents, and which can be declared."""

from collections import deque
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    create_model,
)
from typing_extensions import TypeAliasType

from bus import ConfigurationError, Documents, Event, Projection, ProjectionError, Update
from bus.messages import Envelope
from bus.stores.collections import Target
from bus.stores.memory import MemoryCollections
from bus.stores.memory.documents import MemoryUnit
from bus.testing.contracts.documents.values_contract import write

DAY, MOMENT = date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)


class Account:
    category = "account"


class Thing:
    """What pydantic knows nothing of."""


Told = Annotated[Thing, BeforeValidator(lambda _: Thing())]


class Corner(Enum):
    ORIGIN = (0, 0)


class Within(BaseModel):
    corner: Corner


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    total: int = 0


ANYTHING = ConfigDict(arbitrary_types_allowed=True)


async def documents_of(view: type[BaseModel], **fields: Any) -> Documents[Any]:
    """One document, with the key "a"."""
    store, target = MemoryCollections(), Target("p", "p", True)
    await write(store.writer(target, "q"), {"a": {"$set": fields}})
    return Documents(store.documents(target), view)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Corner, r"V\.field is a Corner, whose member ORIGIN.*text as values"),
        (dict[str, list[Corner]] | None, r"V\.field is a Corner"),
        (Within, r"V\.field\.corner is a Corner"),
        (Thing, r"V\.field is of type Thing.*BeforeValidator"),
        (list[Thing], r"V\.field is of type Thing"),
        (Decimal128, r"V\.field is a Decimal128.*Decimal"),
    ],
)
def test_a_view_with_a_field_that_can_never_be_read_is_refused(annotation: Any, words: str) -> None:
    view = create_model("V", __config__=ANYTHING, field=(annotation, ...))
    with pytest.raises(ConfigurationError, match=rf"Projection 'p': {words}"):
        Projection("p", of=[Account], view=view)


@pytest.mark.parametrize(
    "annotation", [Decimal, date | None, SecretStr, ObjectId, Any, "Later", Told]
)
def test_a_view_with_fields_that_some_document_has_is_declared(annotation: Any) -> None:
    view = create_model("V", __config__=ANYTHING, field=(annotation, ...))
    assert Projection("p", of=[Account], view=view).view is view


@pytest.mark.parametrize("view", [Thing, dict, Closed(id="a")], ids=["class", "dict", "instance"])
def test_a_view_that_is_no_model_is_refused(view: Any) -> None:
    with pytest.raises(ConfigurationError, match="no class of pydantic's BaseModel"):
        Projection("p", of=[Account], view=view)


def test_what_is_never_stored_may_be_of_any_type() -> None:
    view = create_model("V", __config__=ANYTHING, field=(Thing, Thing()))
    assert Projection("p", of=[Account], view=view).view is view


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    day: date
    at: datetime
    key: UUID
    parts: tuple[int, ...]
    spent: timedelta
    price: Decimal
    when: time = Field(strict=True)


async def test_a_strict_view_that_forbids_more_reads_what_was_written() -> None:
    fields: dict[str, Any] = {
        "day": date(2024, 1, 1),
        "at": datetime(2024, 1, 1, tzinfo=UTC),
        "key": UUID(int=1),
        "parts": (1, 2),
        "spent": timedelta(hours=1),
        "price": Decimal("1.10"),
        "when": time(9),
    }
    documents = await documents_of(Strict, **fields)
    assert await documents.get("a") == Strict(**fields)


class Named(BaseModel):
    key: str = Field(alias="_id")
    first: int = Field(alias="firstName")
    second: int = Field(0, validation_alias=AliasChoices("two", "zwei"))
    third: int = Field(0, serialization_alias="drei")


async def test_a_view_that_forbids_more_has_its_id() -> None:
    assert await (await documents_of(Closed, total=1)).get("a") == Closed(id="a", total=1)


@pytest.mark.parametrize("names", [("first", "second"), ("firstName", "zwei"), ("first", "two")])
async def test_fields_are_read_by_their_names_and_by_their_aliases(names: tuple[str, str]) -> None:
    documents = await documents_of(Named, **{names[0]: 1, names[1]: 2}, third=3)
    (found,) = await documents.find({})
    assert (found.key, found.first, found.second, found.third) == ("a", 1, 2, 3)


async def test_a_document_that_cannot_be_read_is_named_without_its_values() -> None:
    documents = await documents_of(Closed, total="secret")
    words = r"document 'a' cannot be read as Closed: total: .*integer.*version="
    with pytest.raises(ProjectionError, match=words) as raised:
        await documents.find({})
    assert "secret" not in str(raised.value)


class Timed(BaseModel):
    day: date | None = None
    at: datetime | None = None


@pytest.mark.parametrize(
    ("filter", "words"),
    [
        ({"at": DAY}, r"a date with 'at', which is a datetime in Timed.*datetime.combine"),
        ({"at": {"$gte": MOMENT, "$lt": DAY}}, "'at', which is a datetime"),
        ({"$or": [{"x": 1}, {"day": {"$in": [DAY, MOMENT]}}]}, r"'day', which.*value.date\(\)"),
    ],
    ids=str,
)
async def test_a_filter_that_compares_dates_with_datetimes_is_refused(
    filter: Mapping[str, Any], words: str
) -> None:
    documents = await documents_of(Timed, day=DAY, at=MOMENT)
    with pytest.raises(ProjectionError, match=words):
        await documents.find(filter)
    with pytest.raises(ProjectionError, match=words):
        await documents.count(filter)
    assert await documents.count({"day": {"$gte": DAY}, "at": {"$lte": MOMENT}, "x": None}) == 1


Day = TypeAliasType("Day", Annotated[date, "local"])


class Dated(BaseModel):
    day: Day | None


async def test_a_date_by_the_name_of_a_type_is_one() -> None:
    documents = await documents_of(Dated, day=DAY)
    with pytest.raises(ProjectionError, match="compares a datetime with 'day', which is a date"):
        await documents.count({"day": MOMENT})


class Noted(Event):
    many: bool = False
    day: date = DAY


@pytest.mark.parametrize("operator", ["$set", "$setOnInsert", "$max", "$min"])
async def test_an_update_that_puts_a_date_in_a_datetimes_place_is_refused(operator: str) -> None:
    pure = Projection("pure", of=[Account], view=Timed)
    waiting = Projection("waiting", of=[Account], view=Timed)

    @pure.on(Noted)
    def noted(event: Noted) -> Update | list[tuple[str, Update]]:
        update = {operator: {"at": event.day, "day": event.day}}
        return [("a", update)] if event.many else update

    @waiting.on(Noted)
    async def written(event: Noted, documents: Documents[Timed]) -> None:
        await documents.update("a", {operator: {"day": MOMENT}})

    for projection, event, words in (
        (pure, Noted(), f"'a', \\{operator}, gives a date to 'at', which is a datetime"),
        (pure, Noted(many=True), f"'a', \\{operator}, gives a date to 'at'"),
        (waiting, Noted(), r"gives a datetime to 'day', which is a date in Timed"),
    ):
        target = projection.target()
        unit = MemoryUnit(MemoryCollections().tables, target, [])
        envelope = Envelope(event, "1", MOMENT, "1", None, "account-a", 1, {})
        with pytest.raises(ProjectionError, match=words):
            await projection.changes(envelope, unit)


async def test_what_a_user_gave_in_a_model_is_no_operator() -> None:
    class Given(BaseModel):
        model_config = ConfigDict(extra="allow")

    documents = await documents_of(Closed, total=1)
    for asked in (Given.model_validate({"$gt": 0}), Given.model_validate({"$where": "1"})):
        with pytest.raises(ProjectionError, match=r"starts with \$"):
            await documents.find({"total": asked})


class Script(Enum):
    WHERE = "$where"


@pytest.mark.parametrize(
    "filter", [{"$or": deque([{"$where": "1"}])}, {"$or": ({Script.WHERE: "1"},)}], ids=str
)
async def test_a_script_hides_in_no_value_of_pythons(filter: Mapping[str, Any]) -> None:
    documents = await documents_of(Closed, total=1)
    for ask in (documents.find, documents.count):
        with pytest.raises(ProjectionError, match="no script"):
            await ask(filter)
