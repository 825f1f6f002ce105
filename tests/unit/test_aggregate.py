import dataclasses
import functools
import sys
import threading
from collections import Counter, deque
from datetime import date
from functools import singledispatchmethod
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field, create_model

from bus import Aggregate, Command, ConfigurationError, Event, InvalidMessage

here = sys.modules[__name__]


class Opened(Event):
    owner: str


class Renamed(Event):
    owner: str


class Tagged(Event):
    tag: str


class Account(Aggregate, snapshot_every=2):
    owner: str = ""
    tags: list[str] = []  # noqa: RUF012

    def apply(self, event: Event) -> None:
        match event:
            case Opened() | here.Renamed():
                self.owner = event.owner
            case Tagged():
                self.tags.append(event.tag)


def test_the_category_follows_from_the_class_name() -> None:
    class LoanApplication(Aggregate): ...

    class Other(Aggregate, category="loan"): ...

    assert (Account.category, LoanApplication.category, Other.category) == (
        "account",
        "loan_application",
        "loan",
    )


def test_a_category_that_cannot_be_a_topic_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not a valid category"):

        class Wrong(Aggregate, category="a-b"): ...


def test_recording_applies_the_event_and_counts_the_version() -> None:
    account = Account("a1")
    account.record(Opened(owner="Ada"))
    account.record(Tagged(tag="vip"))
    assert (account.owner, account.tags, account.version) == ("Ada", ["vip"], 2)
    assert account.stream == "account-a1"


def test_aggregates_do_not_share_mutable_defaults() -> None:
    first, second = Account("a1"), Account("a2")
    first.record(Tagged(tag="vip"))
    assert second.tags == []


def test_an_aggregate_reads_the_events_that_its_apply_names() -> None:
    assert {event.wire_name for event in Account.events().values()} == {
        "Opened",
        "Renamed",
        "Tagged",
    }


def test_recording_an_event_that_could_not_be_read_back_is_refused() -> None:
    class Forgetful(Aggregate):
        def apply(self, event: Event) -> None: ...

    with pytest.raises(ConfigurationError, match="records Opened, which its apply"):
        Forgetful("a1").record(Opened(owner="Ada"))


def test_events_may_be_listed_where_apply_does_not_name_them() -> None:
    class Listed(Aggregate, events=[Opened]): ...

    Listed("a1").record(Opened(owner="Ada"))


def test_a_subclass_reads_its_bases_events_too() -> None:
    class Closed(Event): ...

    class Closable(Account):
        def apply(self, event: Event) -> None:
            match event:
                case Closed():
                    pass
                case _:
                    super().apply(event)

    assert set(Closable.events()) == {"Opened", "Renamed", "Tagged", "Closed"}


def test_a_subclass_reads_the_events_that_its_bases_list() -> None:
    class Listing(Aggregate, events=[Opened]): ...

    class More(Listing, events=[Tagged]): ...

    assert set(More.events()) == {"Opened", "Tagged"}
    More("m1").record(Opened(owner="Ada"))


@pytest.mark.parametrize("id", ["", "x" * 201, "a\nb", 7])
def test_an_id_that_cannot_name_a_stream_is_refused(id: Any) -> None:
    with pytest.raises(
        InvalidMessage,
        match=r"the id of an Account must (be text|be printable|have 1 to 200 characters)",
    ):
        Account(id)


def test_a_snapshot_brings_the_state_back() -> None:
    account = Account("a1")
    account.record(Opened(owner="Ada"))
    account.record(Tagged(tag="vip"))
    again = Account.from_snapshot(account.to_snapshot(), "a1")
    assert again is not None
    assert (again.owner, again.tags, again.version) == ("Ada", ["vip"], 2)
    assert again.recorded == []


def test_a_snapshot_of_another_shape_is_not_used() -> None:
    snapshot = Account("a1").to_snapshot()._replace(shape="older")
    assert Account.from_snapshot(snapshot, "a1") is None


def test_a_snapshot_made_when_other_events_were_read_is_not_used() -> None:
    """What was passed over then, under a name that had no class, is missing in its state."""

    class Noted(Event):
        text: str

    class Before(Aggregate, category="book", events=[Noted]):
        notes: int = 0

    class After(Aggregate, category="book", events=[Noted, Tagged]):
        notes: int = 0

    snapshot = Before("b1").to_snapshot()
    assert Before.from_snapshot(snapshot, "b1")
    assert After.from_snapshot(snapshot, "b1") is None

    class Noted2(Event, name="Noted", schema=2):
        text: str

    class Raised(Aggregate, category="book", events=[Noted2]):
        notes: int = 0

    assert Raised.from_snapshot(snapshot, "b1") is None


def test_an_aggregate_with_two_classes_of_one_name_is_refused() -> None:
    class Closed(Event):
        pass

    class Ended(Event, formerly=["Closed"]):
        pass

    class Book(Aggregate, events=[Closed, Ended]):
        pass

    with pytest.raises(ConfigurationError, match="both travel as 'Closed'"):
        Book("b1").record(Ended())


def test_a_snapshot_needs_types() -> None:
    account = Account("a1")
    account.nickname = "Countess"  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="need a type for nickname"):
        account.to_snapshot()


# What Python 3.14 evaluates only when it is asked for.
DEFINED_LATER = """
class Board(Aggregate):
    columns: list[Column] = []
    mark: Unknown

class Column: ...
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="names are evaluated at once before 3.14")
def test_state_may_be_annotated_with_what_is_defined_later() -> None:
    defined: dict[str, Any] = {"Aggregate": Aggregate, "__name__": __name__}
    exec(DEFINED_LATER, defined)
    one, other = defined["Board"]("b1"), defined["Board"]("b2")
    one.columns.append("todo")
    assert other.columns == []


def test_a_snapshot_of_state_whose_type_is_not_defined_is_refused_by_name() -> None:
    class Board(Aggregate):
        mark: "Unknown"  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match="'Unknown' is not defined; its snapshots need"):
        Board("b1").to_snapshot()


def test_a_subclass_has_its_own_copy_of_the_state_it_inherits() -> None:
    class Savings(Account):
        rates: dict[str, int] = {}  # noqa: RUF012

    one, other = Savings("s1"), Savings("s2")
    one.tags.append("gold")
    one.rates["2026"] = 3
    assert (other.tags, other.rates, Account.tags, Savings.rates) == ([], {}, [], {})


# An event becomes data when it is recorded.


class Note(BaseModel):
    text: str = ""


class Listed(Event):
    tags: list[str] = []  # noqa: RUF012
    meta: Any = None
    note: Note = Note()


class Keeper(Aggregate, snapshot_every=1):
    """Keeps what an event holds, and changes it."""

    tags: list[str] = []  # noqa: RUF012
    meta: Any = None
    note: Note | None = None

    def apply(self, event: Event) -> None:
        match event:
            case Listed():
                self.tags, self.meta, self.note = event.tags, event.meta, event.note


def test_what_an_aggregate_does_with_an_events_parts_does_not_change_what_is_stored() -> None:
    given, keeper = [1, {"a": [2]}], Keeper("k1")
    recorded = Listed(tags=["a"], meta=given, note=Note(text="first"))
    keeper.record(recorded)
    assert keeper.note is not None
    keeper.tags.append("later")
    keeper.meta[1]["a"].append("later")
    keeper.note.text = "later"
    given.append("later")
    expected = {"tags": ["a"], "meta": [1, {"a": [2]}], "note": {"text": "first"}}
    assert [one.data for one in keeper.recorded_data] == [expected]
    assert recorded.tags == ["a"]
    assert recorded.note == Note(text="first")


def test_an_event_that_could_not_be_read_back_is_refused_when_it_is_recorded() -> None:
    keeper = Keeper("k1")
    with pytest.raises(InvalidMessage, match="Listed: meta is of type tuple"):
        keeper.record(Listed(meta=(1, 2)))
    assert (keeper.version, keeper.recorded, keeper.meta) == (0, [], None)


# Defaults


@dataclasses.dataclass
class Limits:
    most: int = 5
    names: list[str] = dataclasses.field(default_factory=list)


class Filled(Aggregate):
    note: Note = Note()
    limits: Limits = Limits()
    queue: deque[str] = deque()  # noqa: RUF012
    made: list[str] = dataclasses.field(default_factory=lambda: ["first"])
    fixed: int = dataclasses.field(default=7)
    pydantic_made: dict[str, int] = Field(default_factory=dict)
    nested: tuple[list[str], ...] = ([],)
    counts: Counter[str] = Counter()  # noqa: RUF012
    unannotated = []  # type: ignore[var-annotated]  # noqa: RUF012
    KNOWN: ClassVar[list[str]] = ["constant"]
    SIZES = ["constant"]  # noqa: RUF012


def test_no_two_aggregates_share_a_default_whatever_it_is() -> None:
    one, other = Filled("1"), Filled("2")
    one.note.text = "changed"
    one.limits.names.append("changed")
    one.queue.append("changed")
    one.made.append("changed")
    one.pydantic_made["changed"] = 1
    one.nested[0].append("changed")
    one.counts["changed"] += 1
    one.unannotated.append("changed")
    assert (other.note, other.limits, other.queue) == (Note(), Limits(), deque())
    assert (other.made, other.fixed, other.pydantic_made) == (["first"], 7, {})
    assert (other.nested, other.counts, other.unannotated) == (([],), Counter(), [])
    assert one.KNOWN is other.KNOWN
    assert one.SIZES is other.SIZES


def test_a_subclass_may_override_a_default_without_annotating_it_again() -> None:
    class Special(Filled):
        made = ["special"]  # noqa: RUF012
        fixed = 8
        note = Note(text="special")

    one, other = Special("1"), Special("2")
    one.made.append("changed")
    assert (other.made, other.fixed, other.note.text) == (["special"], 8, "special")
    assert Filled("3").made == ["first"]


def test_a_property_over_an_inherited_default_stays_one() -> None:
    class Computed(Filled):
        @property
        def fixed(self) -> int:  # type: ignore[override]
            return len(self.made)

    assert Computed("1").fixed == 1


def test_a_default_that_cannot_be_copied_is_refused_at_the_class() -> None:
    with pytest.raises(ConfigurationError, match=r"Locked: its default of 'lock' cannot be copied"):

        class Locked(Aggregate):
            lock: Any = threading.Lock()


# Snapshots


def test_a_snapshot_gives_the_very_state_that_the_events_give() -> None:
    class Rich(Aggregate, snapshot_every=1):
        note: Note = Note()
        limits: Limits = Limits()
        queue: deque[str] = deque()  # noqa: RUF012
        seen: set[int] = set()  # noqa: RUF012
        pair: tuple[int, str] = (0, "")
        _private: dict[str, int] = {}  # noqa: RUF012

    rich = Rich("r1")
    rich.note.text, rich.limits.names = "a", ["b"]
    rich.queue.append("c")
    rich.seen.add(1)
    rich.pair = (1, "d")
    rich._private["e"] = 2
    again = Rich.from_snapshot(rich.to_snapshot(), "r1")
    assert again is not None
    assert {**vars(again), "version": 0} == {**vars(rich), "version": 0}


@pytest.mark.parametrize("value", [(1, 2), {1}, Note(), date(2026, 1, 1)])
def test_a_snapshot_that_would_give_another_state_is_not_made(value: Any) -> None:
    keeper = Keeper("k1")
    keeper.meta = value
    with pytest.raises(InvalidMessage, match="Keeper: meta is of type"):
        keeper.to_snapshot()


def test_a_snapshot_made_when_events_were_applied_otherwise_is_not_used() -> None:
    class Before(Aggregate, category="book", events=[Tagged]):
        tags: list[str] = []  # noqa: RUF012

        def apply(self, event: Event) -> None:
            self._note(event)

        def _note(self, event: Event) -> None:
            assert isinstance(event, Tagged)
            self.tags.append(event.tag)

    class Same(Before, category="book", events=[Tagged]):
        def rename(self) -> None: ...

    class Otherwise(Before, category="book", events=[Tagged]):
        def _note(self, event: Event) -> None:
            assert isinstance(event, Tagged)
            self.tags.append(event.tag.upper())

    snapshot = Before("b1").to_snapshot()
    assert Before.from_snapshot(snapshot, "b1")
    assert Same.from_snapshot(snapshot, "b1")
    assert Otherwise.from_snapshot(snapshot, "b1") is None


def test_a_snapshot_of_a_model_that_had_other_fields_is_not_used() -> None:
    def board(model: type[BaseModel]) -> type[Aggregate]:
        return type(
            "Board", (Aggregate,), {"__annotations__": {"card": model | None}, "card": None}
        )

    now = board(create_model("Card", title=(str, "")))
    later = board(create_model("Card", title=(str, ""), done=(bool, False)))
    snapshot = now("b1").to_snapshot()
    assert now.from_snapshot(snapshot, "b1")
    assert later.from_snapshot(snapshot, "b1") is None


def test_an_aggregate_that_is_a_dataclass_is_refused() -> None:
    @dataclasses.dataclass
    class Careless(Account):
        owner: str = ""

    with pytest.raises(ConfigurationError, match=r"Careless: it is a dataclass.* take @dataclass"):
        Careless.events()


TAKEN: list[tuple[dict[str, Any], str]] = [
    ({"__annotations__": {"category": str}, "category": ""}, "'category' is a name of the agg"),
    ({"category": "book"}, r"or, if it is that, write class ...\(Aggregate, category=...\)"),
    ({"snapshot_every": 100}, r"write class ...\(Aggregate, snapshot_every=...\)"),
    ({"__annotations__": {"events": list}}, "'events' is a name of the aggregate's own"),
    ({"__annotations__": {"stream": str}, "stream": ""}, "'stream' is a name of the aggregate's"),
    ({"version": 5}, "'version' is a name of the aggregate's own"),
    ({"id": ""}, "'id' is a name of the aggregate's own"),
]


@pytest.mark.parametrize(("body", "why"), TAKEN)
def test_state_that_is_named_as_the_aggregates_own_is_refused(
    body: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"Product: .*{why}"):
        type("Product", (Aggregate,), body)


def test_an_id_and_a_version_may_be_annotated() -> None:
    class Product(Aggregate):
        id: str
        version: int
        category: ClassVar[str]

    assert (Product("p1").id, Product.category) == ("p1", "product")


def test_an_apply_that_nobody_would_await_is_refused() -> None:
    class Waiting(Aggregate):
        async def apply(self, event: Event) -> None:  # type: ignore[override]
            match event:
                case Opened():
                    pass

    with pytest.raises(ConfigurationError, match=r"Waiting: apply\(\) is async"):
        Waiting("w1").record(Opened(owner="Ada"))


# Loading


def test_an_aggregate_that_needs_more_than_its_id_is_refused_before_anything_is_stored() -> None:
    class Clocked(Account):
        def __init__(self, id: str, clock: Any) -> None:
            super().__init__(id)
            self.clock = clock

    class Nameless(Account):
        def __init__(self) -> None:
            super().__init__("one")

    with pytest.raises(
        ConfigurationError, match=r"Clocked: its __init__ takes \(id: str, clock: Any\).* id alone"
    ):
        Clocked("c1", None).record(Opened(owner="Ada"))
    with pytest.raises(ConfigurationError, match=r"Nameless: its __init__ takes \(\)"):
        Nameless().record(Opened(owner="Ada"))


def test_an_aggregate_whose_init_records_is_refused() -> None:
    class Eager(Account):
        def __init__(self, id: str) -> None:
            super().__init__(id)
            self.record(Opened(owner="Ada"))

    with pytest.raises(ConfigurationError, match=r"Eager: its __init__ records Opened, and would"):
        Eager("e1")


def test_an_init_may_take_more_that_has_a_default() -> None:
    class Clocked(Account):
        def __init__(self, id: str, *, clock: Any = None) -> None:
            super().__init__(id)
            self.owner = "nobody" if clock is None else "somebody"

    class Later(Clocked):
        def __init__(self, id: str) -> None:
            super().__init__(id, clock=1)

    def clocked(function: Any) -> Any:
        return functools.wraps(function)(lambda self, id: function(self, id, clock=1))

    class Given(Clocked):
        @clocked
        def __init__(self, id: str, *, clock: Any) -> None:
            super().__init__(id, clock=clock)

    for kind in (Clocked, Later, Given):
        kind("c1").record(Opened(owner="Ada"))


class Dispatched(Aggregate):
    owner: str = ""
    tags: list[str] = []  # noqa: RUF012

    @singledispatchmethod
    def apply(self, event: Event) -> None: ...

    @apply.register
    def _(self, event: Opened) -> None:
        self.owner = event.owner

    @apply.register(Tagged | Renamed)
    def _(self, event: Tagged | Renamed) -> None:
        match event:
            case Tagged():
                self.tags.append(event.tag)
            case Renamed():
                self.owner = event.owner


def test_apply_may_be_a_singledispatchmethod() -> None:
    class Ended(Event):
        pass

    class More(Dispatched):
        ended: bool = False

        @singledispatchmethod
        def apply(self, event: Event) -> None:
            super().apply(event)

        @apply.register
        def _(self, event: Ended) -> None:
            self.ended = True

    assert set(Dispatched.events()) == {"Opened", "Renamed", "Tagged"}
    assert set(More.events()) == {"Opened", "Renamed", "Tagged", "Ended"}
    more = More("m1")
    for event in (Opened(owner="Ada"), Tagged(tag="vip"), Renamed(owner="Bob"), Ended()):
        more.record(event)
    assert (more.owner, more.tags, more.ended) == ("Bob", ["vip"], True)
    again = More.from_snapshot(more.to_snapshot(), "m1")
    assert again is not None
    assert (again.owner, again.tags, again.ended) == ("Bob", ["vip"], True)


def noted(function: Any) -> Any:
    @functools.wraps(function)
    def noting(*args: Any) -> Any:
        return function(*args)

    return noting


def test_apply_may_be_decorated() -> None:
    class Decorated(Aggregate):
        owner: str = ""

        @noted
        def apply(self, event: Event) -> None:
            match event:
                case Opened():
                    self.owner = event.owner

    assert set(Decorated.events()) == {"Opened"}


def test_an_apply_that_is_no_function_names_nothing() -> None:
    class Applying:
        def __call__(self, event: Event) -> None: ...

    class Odd(Aggregate):
        apply = Applying()

    with pytest.raises(ConfigurationError, match="Odd records Opened, which its apply"):
        Odd("o1").record(Opened(owner="Ada"))


def test_an_apply_that_nobody_would_go_through_is_refused() -> None:
    class Yielding(Aggregate):
        def apply(self, event: Event) -> Any:
            match event:
                case Opened():
                    yield event

    class Dispatching(Aggregate):
        @singledispatchmethod
        def apply(self, event: Event) -> None: ...

        @apply.register  # type: ignore[arg-type]
        async def _(self, event: Opened) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Yielding: apply\(\) has a `yield`"):
        Yielding.events()
    with pytest.raises(ConfigurationError, match=r"Dispatching: apply\(\) is async"):
        Dispatching.events()


class Drawer(Aggregate, snapshot_every=1):
    class Opened(Event, name="DrawerOpened"):
        by: str

    class Within:
        class Shut(Event, name="DrawerShut"):
            pass

    class Emptied(Event, name="DrawerEmptied"):
        pass

    class Lost(Event, name="DrawerLost"):
        pass

    by: str = ""

    def apply(self, event: Event) -> None:
        match event:
            case Drawer.Opened():
                self.by = event.by
            case Drawer.Within.Shut():
                self.by = ""
            case self.Emptied():
                self.by = "nobody"

    def lose(self) -> None:
        self.record(Drawer.Lost())


class LockedDrawer(Drawer):
    pass


@pytest.mark.parametrize("kind", [Drawer, LockedDrawer])
def test_events_may_be_declared_within_their_aggregate(kind: type[Drawer]) -> None:
    assert set(kind.events()) == {"DrawerOpened", "DrawerShut", "DrawerEmptied"}
    drawer = kind("a")
    drawer.record(Drawer.Opened(by="Ada"))
    assert drawer.by == "Ada"
    read = kind.from_snapshot(drawer.to_snapshot(), "a")
    assert read is not None
    assert read.by == "Ada"
    drawer.record(Drawer.Within.Shut())
    drawer.record(Drawer.Emptied())
    assert (drawer.by, drawer.version) == ("nobody", 3)


def test_events_within_an_aggregate_in_a_function_are_found() -> None:
    class Box(Aggregate):
        class Opened(Event, name="BoxOpened"):
            pass

        def apply(self, event: Event) -> None:
            match event:
                case Box.Opened():
                    pass

    assert set(Box.events()) == {"BoxOpened"}


def test_an_event_within_an_aggregate_that_apply_does_not_name_is_told_what_works() -> None:
    told = (
        r"records Lost, which its apply\(\) does not name.*`case Drawer.Lost\(\)`.*out of the class"
    )
    with pytest.raises(ConfigurationError, match=told) as refused:
        Drawer("a").lose()
    assert "events=" not in str(refused.value)


class Plain(BaseModel):
    pass


class Shut(Command):
    pass


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Opened, "this is a class: make an object of it"),
        (Plain(), "Drawer.record takes an Event, and this is of type Plain"),
        (Shut(), "Drawer.record takes an Event, and Shut is a Command"),
        (None, "Drawer.record takes an Event, and this is of type NoneType"),
    ],
)
def test_recording_what_is_no_event_is_told(given: Any, told: str) -> None:
    drawer = Drawer("a")
    with pytest.raises((InvalidMessage, ConfigurationError), match=told):
        drawer.record(given)
    assert (drawer.version, drawer.recorded) == (0, [])
