import types
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import RootModel, ValidationError, create_model

from bus import (
    Command,
    ConfigurationError,
    Envelope,
    Event,
    Fault,
    InvalidMessage,
    NewerMessage,
    Query,
    Receipt,
)
from bus.codec import read_recorded, record
from bus.common import clock
from bus.data.ids import category_of, key_of
from bus.declare.registry import registry_of
from bus.messages import Message, read_data
from bus.stores.event_log import Recorded


class OpenAccount(Command):
    account_id: str
    deposit: float = 0.0


class AccountOpened(Event, name="account_opened", schema=3):
    account_id: str


class GetBalance(Query[int | None]):
    account_id: str


def test_the_wire_name_is_the_class_name_unless_it_is_fixed() -> None:
    assert OpenAccount.wire_name == "OpenAccount"
    assert (AccountOpened.wire_name, AccountOpened.wire_schema) == ("account_opened", 3)
    assert GetBalance.wire_name == "GetBalance"


def test_a_wire_name_that_cannot_travel_is_refused_at_the_class() -> None:
    with pytest.raises(
        ConfigurationError, match="is not a valid name for a message to travel by; use letters"
    ):

        class Opened(Event, name="account opened"):
            pass


def test_an_event_is_read_under_its_former_names_too() -> None:
    class Renamed(Event, formerly=["Named", "Called"]):
        pass

    class Heir(Renamed):
        pass

    assert Renamed.wire_names() == ("Renamed", "Named", "Called")
    assert Heir.wire_names() == ("Heir",)
    assert AccountOpened.wire_names() == ("account_opened",)
    events: list[type[Event]] = [Renamed, AccountOpened, Renamed]
    assert registry_of("here", events) == {
        "Renamed": Renamed,
        "Named": Renamed,
        "Called": Renamed,
        "account_opened": AccountOpened,
    }


def test_a_name_that_two_classes_claim_is_refused_and_said() -> None:
    class Moved(Event, formerly=["account_opened"]):
        pass

    events: list[type[Event]] = [AccountOpened, Moved]
    told = r"here: .*Moved and .*AccountOpened both travel as 'account_opened' .*Moved did formerly"
    with pytest.raises(ConfigurationError, match=told):
        registry_of("here", events)


@pytest.mark.parametrize("formerly", ["Opened", ["account opened"], [""], 5, [5]], ids=str)
def test_former_names_that_are_none_are_refused_at_the_class(formerly: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"write a list|is not a valid name"):

        class Opened(Event, formerly=formerly):
            pass


@pytest.mark.parametrize("schema", ["2", 0, -1, 1.5, True, None], ids=repr)
def test_a_schema_that_is_no_number_from_one_on_is_refused_at_the_class(schema: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Made: schema=.*: give a whole number, 1 or m"):

        class Made(Event, schema=schema):
            pass


def test_a_name_that_is_no_text_is_refused_at_the_class() -> None:
    name: Any = 5
    with pytest.raises(ConfigurationError, match="Made: 5 is not a valid name"):

        class Made(Event, name=name):
            pass


@pytest.mark.parametrize("base", [Command, Event, Query])
@pytest.mark.parametrize("name", ["wire_name", "wire_schema", "former_names", "upcast"])
@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
def test_a_field_that_hides_what_a_message_has_of_its_own_is_refused(
    base: type[Message], name: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"Made: {name} is what every message has .*ren"):
        create_model("Made", __base__=base, **{name: (str, "a")})  # type: ignore[call-overload]


def test_a_message_without_fields_of_its_own_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Made: a message is an object with fields"):
        types.new_class("Made", (RootModel[int], Event))


def test_an_upcast_that_nobody_could_call_is_refused_at_the_class() -> None:
    with pytest.raises(
        ConfigurationError, match=r"Made: upcast\(\) is called with data, .*@classm"
    ):

        class Made(Event, schema=2):
            def upcast(self, data: Any, schema: int) -> Any:  # type: ignore[override]
                return data

    with pytest.raises(ConfigurationError, match=r"MadeToo: upcast\(\) is async, .*`def upcast`"):

        class MadeToo(Event, schema=2):
            @classmethod
            async def upcast(cls, data: Any, schema: int) -> Any:  # type: ignore[override]
                return data


def one_short(cls: Any, data: Any) -> Any: ...


def by_name(cls: Any, data: Any, *, schema: int) -> Any: ...


def one_more(cls: Any, data: Any, schema: int, more: int) -> Any: ...


@pytest.mark.parametrize(
    "upcast",
    [classmethod(one_short), classmethod(by_name), classmethod(one_more), staticmethod(one_more)],
)
def test_an_upcast_is_called_with_the_data_and_the_schema(upcast: Any) -> None:
    remedy = (
        r"Made: upcast\(\) is called with two by position.*; write @classmethod, def upcast\(cl"
    )
    with pytest.raises(ConfigurationError, match=remedy):
        types.new_class("Made", (Event,), {"schema": 2}, lambda body: body.update(upcast=upcast))


def whatever(cls: Any, *given: Any, **named: Any) -> Any: ...


def with_default(cls: Any, data: Any, schema: int, more: int = 1) -> Any: ...


@pytest.mark.parametrize(
    "upcast", [classmethod(whatever), classmethod(with_default), staticmethod(one_short)]
)
def test_an_upcast_may_take_more(upcast: Any) -> None:
    types.new_class("Taking", (Event,), {"schema": 2}, lambda body: body.update(upcast=upcast))


def test_an_upcast_may_be_static_and_one_that_returns_nothing_is_told() -> None:
    class Static(Event, schema=2):
        number: int

        @staticmethod
        def upcast(data: Any, schema: int) -> Any:
            return {"number": data["count"]}

    class Forgetful(Event, schema=2):
        number: int = 0

        @classmethod
        def upcast(cls, data: Any, schema: int) -> Any:
            data["number"] = data.pop("count")

    assert read_data(Static, {"count": 1}, 1) == Static(number=1)
    with pytest.raises(
        InvalidMessage, match=r"Forgetful, schema 1: upcast\(\) returned NoneType; let it return"
    ):
        read_data(Forgetful, {"count": 1}, 1)


def test_messages_are_immutable() -> None:
    with pytest.raises(ValidationError):
        OpenAccount(account_id="a").account_id = "b"  # type: ignore[misc]


@pytest.mark.parametrize("deposit", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_know_are_refused(deposit: float) -> None:
    with pytest.raises(ValidationError):
        OpenAccount(account_id="a", deposit=deposit)


def test_a_command_refuses_fields_it_does_not_know_and_an_event_ignores_them() -> None:
    with pytest.raises(ValidationError):
        OpenAccount.model_validate({"account_id": "a", "typo": 1})
    assert AccountOpened.model_validate({"account_id": "a", "newer": 1}).account_id == "a"


def test_a_receipt_travels_as_a_token() -> None:
    receipt = Receipt("c1", {"job-1": 3, "odd name-ä & b=c": 12})
    assert Receipt.from_token(receipt.token).versions == receipt.versions
    assert receipt.token.isascii()
    assert Receipt.from_token("").versions == {}


@pytest.mark.parametrize("token", ["job-1", "job-1=x", "job-1=1&&", "=&" * 200])
def test_a_token_that_is_none_is_a_clear_error(token: str) -> None:
    with pytest.raises(InvalidMessage, match="is not the token of a receipt"):
        Receipt.from_token(token)


def test_a_stream_id_holds_category_and_key() -> None:
    assert (category_of("job-01-92"), key_of("job-01-92")) == ("job", "01-92")


def test_ids_are_uuids_of_version_7_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(clock.Source):
        clock = 1_700_000_000.0

        def seconds(self) -> float:
            return self.clock

    source = Fixed()
    monkeypatch.setattr(clock, "source", source)
    early = clock.new_id()
    source.clock += 0.001
    late = clock.new_id()
    assert early < late
    assert len(early) == 32
    assert early[12] == "7"
    assert early[16] in "89ab"
    assert clock.now() == datetime(2023, 11, 14, 22, 13, 20, 1000, tzinfo=UTC)


def test_an_id_of_version_7_tells_when_it_was_made_and_others_do_not() -> None:
    id, time = clock.new_id_and_time()
    assert clock.time_of(id) == time
    assert clock.time_of(str(uuid.UUID(id))) == time
    for other in ("", "order 7", uuid.uuid4().hex, "f" * 12 + "7" + "0" * 3 + "8" + "0" * 15):
        assert clock.time_of(other) is None


def test_ids_do_not_repeat() -> None:
    assert len({clock.new_id() for _ in range(10_000)}) == 10_000


def test_an_envelope_knows_its_messages_name() -> None:
    envelope = Envelope(AccountOpened(account_id="a"), "e1", clock.now(), "c1")
    assert envelope.name == "account_opened"


class Charged(Event, schema=2, formerly=["Billed"]):
    cents: int

    @classmethod
    def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"cents": data["euros"] * 100}


OLD_FAULT = {
    "message": "Billed",
    "message_id": "m1",
    "subscription": "shop.mails",
    "error": "Reject",
    "reason": "never",
    "attempts": 1,
}
"""As a release told of it that knew no more fields."""


class FormerFault(Event, name="Fault"):
    """As the class was in that release."""

    message: str
    message_id: str
    subscription: str
    error: str
    reason: str
    attempts: int


def test_a_fault_of_a_release_before_is_read() -> None:
    fault = read_recorded(Recorded("Fault", 1, OLD_FAULT), {"Fault": Fault})
    assert isinstance(fault, Fault)
    assert (fault.stream, fault.version, fault.data, fault.left_out) == ("", 0, None, "")
    with pytest.raises(
        InvalidMessage, match=r"no data of the Billed \(its release included none\)"
    ):
        fault.original(Charged)


def test_a_release_before_reads_a_fault() -> None:
    told = Fault(**OLD_FAULT, stream="order-1", version=3, data={"euros": 2}, dead_letter="l")
    read = read_recorded(record(told), {"Fault": FormerFault})
    assert read == FormerFault(**OLD_FAULT)


def test_a_fault_gives_the_message_as_its_class() -> None:
    fault = Fault(**OLD_FAULT, data={"euros": 2})
    assert fault.original(Charged) == Charged(cents=200)
    assert Fault(**OLD_FAULT, data={"cents": 5}, data_schema=2).original(Charged).cents == 5
    with pytest.raises(InvalidMessage, match="about a message Billed, and not OpenAccount"):
        fault.original(OpenAccount)
    unreadable = Fault(**OLD_FAULT, data={"cents": "secret"}, data_schema=2)
    with pytest.raises(InvalidMessage, match="Charged: cents: Input should be") as refused:
        unreadable.original(Charged)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "schema", "kind", "words"),
    [
        ({"cents": 5}, 3, NewerMessage, "it is of schema 3, and the class here is of schema 2"),
        ({"pounds": 5}, 1, InvalidMessage, "Charged, schema 1: KeyError"),
    ],
)
def test_a_faults_message_is_read_as_a_stored_one_is(
    data: dict[str, Any], schema: int, kind: type[Exception], words: str
) -> None:
    for read in (
        Fault(**OLD_FAULT, data=data, data_schema=schema).original,
        lambda kind: read_recorded(Recorded("Billed", schema, data), {"Billed": kind}),
    ):
        with pytest.raises(kind, match=words):
            read(Charged)


@pytest.mark.parametrize("base", [Command, Event])
def test_fields_may_have_the_names_that_are_no_part_of_what_messages_promise(base: Any) -> None:
    kind = create_model("Inspected", __base__=base, is_checked=(bool, True), check_declared=str)
    assert kind.model_fields["is_checked"].default is True
    assert kind.model_fields["check_declared"].is_required()


@pytest.mark.parametrize(
    ("attribute", "value", "option"),
    [("wire_name", "X", "name"), ("wire_schema", 3, "schema"), ("former_names", ["Y"], "formerly")],
)
def test_what_is_an_option_of_the_class_is_refused_in_its_body(
    attribute: str, value: Any, option: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"Said: {attribute} is set .*\.\.\., {option}="):
        type("Said", (Event,), {attribute: value, "__module__": __name__})
