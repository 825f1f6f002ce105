import sys
from typing import Any

import pytest

from bus import Aggregate, ConfigurationError, Event, InvalidMessage

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
    with pytest.raises(ConfigurationError, match="is no category"):

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


@pytest.mark.parametrize("id", ["", "x" * 201, "a\nb", 7])
def test_an_id_that_cannot_name_a_stream_is_refused(id: Any) -> None:
    with pytest.raises(InvalidMessage, match="is no id of Account"):
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
