"""A snapshot gives the very state that the events give, or the part is named that it would lose."""

import collections
import dataclasses
import enum
import itertools
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr

from bus import Aggregate, ConfigurationError, InvalidMessage
from bus.data.round_trip import attributes_of, difference_of_state
from bus.stores.records import decoded, encoded
from tests.examples import hundreds
from tests.unit.test_round_trips import _exact, _typed


class Hidden(BaseModel):
    text: str = ""
    _count: int = PrivateAttr(0)


class Frozen(BaseModel, frozen=True):
    text: str = ""


@dataclasses.dataclass
class Summed:
    numbers: list[int]

    def __post_init__(self) -> None:
        self.total = sum(self.numbers)


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int
    kept: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass(frozen=True)
class Price:
    cents: int


class Bag(dict[str, int]):
    """A dictionary with an attribute."""


class Text(str):
    """A text with an attribute."""


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Place(enum.Enum):
    HERE = (1, 2)


class Pair(NamedTuple):
    first: Any
    second: Any = None


class Entity:
    """Compared by its id, whatever else it holds."""

    def __init__(self, id: str, name: str = "") -> None:
        self.id, self.name = id, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entity) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def held(kind: Any, value: Any, **more: Any) -> Aggregate:
    """An aggregate whose state is this value of this type."""
    kinds = {"held": kind, **dict.fromkeys(more, kind)}
    cls = type("Holder", (Aggregate,), {"__annotations__": kinds})
    aggregate: Aggregate = cls("h1")
    for name, one in {"held": value, **more}.items():
        setattr(aggregate, name, one)
    return aggregate


def hidden(count: int) -> Hidden:
    made = Hidden()
    made._count = count
    return made


def changed(value: Any, **attributes: Any) -> Any:
    for name, one in attributes.items():
        setattr(value, name, one)
    return value


BERLIN = ZoneInfo("Europe/Berlin")
LOST = [
    (Hidden, hidden(3), "held._count would be read as another value"),
    (tuple[Hidden, ...], (hidden(3),), "held.0._count would be"),
    (dict[str, list[Hidden]], {"a": [hidden(3)]}, "held.a.0._count would be"),
    (Pair, Pair(1, {1}), "held.1 is of type set"),
    (Summed, changed(Summed([1]), total=9), "held.total would be read as another value"),
    (Summed, changed(Summed([1]), by="Ada"), "held.by would not be read back"),
    (Slotted, changed(Slotted(1), kept=7), "held.kept would be read as another value"),
    (collections.deque[int], collections.deque([1], maxlen=2), "held has maxlen=2"),
    (collections.defaultdict[str, int], collections.defaultdict(list), "held would be read with"),
    (collections.defaultdict[str, int], collections.defaultdict(lambda: 3), "default_factory"),
    (dict[str, int], collections.Counter("ab"), "held is of type Counter"),
    (dict[str, int], collections.OrderedDict(a=1), "held is of type OrderedDict"),
    (dict[str, int], Bag(a=1), "held is of type Bag"),
    (str, changed(Text("a"), lang="en"), "held is of type Text"),
    (Any, Right.READ | Right.WRITE, "held is of type Right"),
    (Any, b"abc", "held is of type bytes"),
    (datetime, datetime(2026, 7, 1, tzinfo=BERLIN), "held has the zone Europe/Berlin"),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1), "held is the second of two equal hours"),
    (dict[Any, int], {(1, 2): 3}, "held has a key of type tuple"),
    (Place, Place.HERE, "could not be read back once it is written: held"),
    (Any, itertools.count(), "held holds an iterator"),
    (Any, {"a": [iter([1])]}, "held holds an iterator"),
    (bytes, b"\xff", "held cannot be written as JSON"),
    (Any, Entity("a"), "held cannot be written as JSON"),
    (Any, held(int, 1), "held cannot be written as JSON"),
    (Any, lambda: 1, "held cannot be written as JSON"),
]


@pytest.mark.parametrize(("kind", "value", "why"), LOST)
def test_what_a_snapshot_would_lose_of_its_state_is_named(kind: Any, value: Any, why: str) -> None:
    with pytest.raises(InvalidMessage, match="^Holder: .*" + why.replace(".", r"\.")):
        held(kind, value).to_snapshot()


HELD = [
    (Hidden, hidden(0)),
    (list[Frozen], [Frozen(text="a")]),
    (Summed, Summed([1, 2])),
    (Slotted, Slotted(1)),
    (Price, Price(5)),
    (collections.deque[int], collections.deque([1])),
    (collections.defaultdict[str, list[int]], collections.defaultdict(list, a=[1])),
    (collections.Counter[str], collections.Counter("aab")),
    (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2)),
    (Right, Right.READ | Right.WRITE),
    (Pair, Pair(1, [2])),
    (datetime, datetime(2026, 7, 1, tzinfo=UTC)),
    (datetime, datetime(2026, 7, 1, tzinfo=timezone(timedelta(hours=2)))),
    (dict[Pair | str, int], {"a": 3}),
    (float, 0),
    (Final[list[int]], [1]),
]


@pytest.mark.parametrize(("kind", "value"), HELD)
def test_what_a_snapshot_can_hold_is_read_back_with_all_that_is_in_it(
    kind: Any, value: Any
) -> None:
    aggregate = held(kind, value)
    again = type(aggregate).from_snapshot(aggregate.to_snapshot(), "h1")
    assert again is not None
    assert again.held == value  # type: ignore[attr-defined]
    assert attributes_of(again).keys() == attributes_of(aggregate).keys()


def _of(kind: Any) -> Any:
    return tuple[kind, ...]


SHARED: list[Any] = [[1], {"a": 1}, Hidden(), Summed([1]), collections.deque([1])]


@pytest.mark.parametrize("value", SHARED)
def test_two_parts_of_the_state_that_are_one_object_are_no_snapshot(value: Any) -> None:
    kind = type(value)
    with pytest.raises(InvalidMessage, match=r"Holder: other is one object with held, and would"):
        held(kind, value, other=value).to_snapshot()
    with pytest.raises(InvalidMessage, match=r"Holder: other\.0 is one object with held\.0"):
        held(_of(kind), (value,), other=(value,)).to_snapshot()


@pytest.mark.parametrize(
    "value", ["abc", (1, "a"), frozenset({1}), Price(5), Frozen(text="a"), Right.READ]
)
def test_what_never_changes_may_be_shared(value: Any) -> None:
    aggregate = held(type(value), value, other=value)
    assert aggregate.to_snapshot().state.keys() == {"held", "other"}


def test_what_would_be_read_as_one_object_is_told() -> None:
    class Two:
        def __init__(self, first: list[int], second: list[int]) -> None:
            self.first, self.second = first, second

    one: list[int] = []
    different = difference_of_state(Two([], []), Two(one, one))
    assert str(different).startswith("second would be one object with first")
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [1]
    other.append(other)
    assert difference_of_state(Two(ring, []), Two(other, [])) is None


def test_entities_that_say_that_they_are_equal_are_compared_whole() -> None:
    class Board:
        def __init__(self, *members: Entity) -> None:
            self.members = list(members)

    different = difference_of_state(Board(Entity("a", "Ada")), Board(Entity("a")))
    assert str(different).startswith("members.0.name would be read as another value")


class Slots(Aggregate):
    __slots__ = ("__secret", "counted")
    counted: int
    held: int = 0

    def hide(self) -> None:
        self.__secret = 1


def test_state_in_slots_is_kept_or_named() -> None:
    aggregate = Slots("s1")
    aggregate.counted = 7
    again = Slots.from_snapshot(aggregate.to_snapshot(), "s1")
    assert again is not None
    assert again.counted == 7
    aggregate.hide()
    with pytest.raises(ConfigurationError, match="Slots: snapshots need a type for _Slots__secret"):
        aggregate.to_snapshot()


def test_a_cached_property_of_the_state_counts_where_it_is_stale() -> None:
    class Total(BaseModel):
        numbers: list[int] = []

        @cached_property
        def total(self) -> int:
            return sum(self.numbers)

    value = Total(numbers=[1])
    assert value.total == 1
    assert held(Total, value).to_snapshot().state == {"held": {"numbers": [1]}}
    value.numbers.append(2)
    with pytest.raises(InvalidMessage, match=r"Holder: held\.total would be read as another value"):
        held(Total, value).to_snapshot()


def test_a_type_that_pydantic_does_not_know_is_named_with_its_attribute() -> None:
    aggregate = held(int, 1, other=2)
    type(aggregate).__annotations__["other"] = Entity
    with pytest.raises(ConfigurationError, match="Holder: snapshots cannot hold other, of a type"):
        aggregate.to_snapshot()


def test_state_that_is_final_is_kept() -> None:
    class Constant(Aggregate):
        limit: Final = 5
        owner: Final[list[str]] = []

    one = Constant("c1")
    one.owner.append("Ada")
    again = Constant.from_snapshot(one.to_snapshot(), "c1")
    assert again is not None
    assert (again.limit, again.owner) == (5, ["Ada"])


@st.composite
def _states(draw: st.DrawFn) -> Aggregate:
    """An aggregate of a class of its own, with one to three attributes."""
    typed = draw(st.lists(_typed(), min_size=1, max_size=3))
    kinds = {f"held_{place}": kind for place, (kind, _) in enumerate(typed)}
    made: Aggregate = type("Made", (Aggregate,), {"__annotations__": kinds})("m1")
    for place, (_, values) in enumerate(typed):
        setattr(made, f"held_{place}", draw(values))
    return made


@settings(
    max_examples=hundreds(3),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(_states())
def test_state_of_any_type_is_read_back_as_it_is_or_refused(made: Aggregate) -> None:
    try:
        snapshot = made.to_snapshot()
        state = decoded(encoded(snapshot.state))  # the log refuses keys with a NUL, say
    except (ConfigurationError, InvalidMessage):
        event("refused")
        return
    event("kept")
    stored = snapshot._replace(state=state)
    again = type(made).from_snapshot(stored, "m1")
    assert _exact(vars(again)) == _exact(vars(made))
