from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest
from pydantic import Field, field_validator

from bus import Command, Envelope, Event, InvalidMessage, NewerMessage, UnknownMessage
from bus.codec import (
    command_frame,
    data_of,
    envelopes_of,
    frames_of,
    new_envelope,
    read_frame,
    read_recorded,
    record,
    unread,
)
from bus.declare.registry import registry_of
from bus.stores.event_log import Commit, Outgoing, Recorded
from bus.transports.base import MAX_BODY, Frame

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Opened(Event, schema=2):
    owner: str
    deposit: float = 0.0

    @classmethod
    def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"owner": data["name"]} if schema == 1 else data


class Nested(Event):
    inner: Any


class Close(Command):
    account_id: str


REGISTRY: dict[str, type[Event]] = {"Opened": Opened, "Nested": Nested}


def frame(body: bytes, *, name: str = "Opened", **headers: str | int) -> Frame:
    all_headers: dict[str, str | int] = {
        "stream": "account-1",
        "version": 1,
        "schema": 2,
        **headers,
    }
    return Frame("events", "account.Opened.1", "c1:1", name, body, NOW, "corr", all_headers)


def commit(*events: Event, outgoing: tuple[Outgoing, ...] = ()) -> Commit:
    recorded = tuple(record(event) for event in events)
    return Commit(
        "c1",
        "account-1",
        "account",
        4,
        recorded,
        NOW,
        "corr",
        "cause",
        {"traceparent": "00"},
        outgoing,
    )


def test_an_event_arrives_as_it_was_recorded() -> None:
    stored = commit(Opened(owner="Ada"), Opened(owner="Bob"))
    arrived = [read_frame(one, REGISTRY) for one in frames_of(stored)]
    assert arrived == list(envelopes_of(stored, REGISTRY))
    assert [(e.stream, e.version, e.id) for e in arrived] == [
        ("account-1", 4, "c1:1"),
        ("account-1", 5, "c1:2"),
    ]
    assert arrived[0].headers == {"traceparent": "00"}
    assert (arrived[0].correlation_id, arrived[0].causation_id) == ("corr", "cause")


def test_a_commits_commands_travel_with_their_own_ids() -> None:
    sent = Outgoing("k1", "Close", 1, {"account_id": "1"})
    (one,) = frames_of(commit(outgoing=(sent,)))
    assert (one.address, one.id, one.headers["causation_id"]) == ("commands", "k1", "c1")
    assert read_frame(one, {"Close": Close}).message == Close(account_id="1")


def test_a_command_arrives_as_it_was_sent() -> None:
    envelope = Envelope(Close(account_id="1"), "k1", NOW, "corr", "cause", headers={"tenant": "t"})
    assert read_frame(command_frame(envelope), {"Close": Close}) == envelope


def test_older_data_is_upcast_on_receipt_and_on_load() -> None:
    assert read_frame(frame(b'{"name":"Ada"}', schema=1), REGISTRY).message == Opened(owner="Ada")
    assert read_recorded(Recorded("Opened", 1, {"name": "Ada"}), REGISTRY) == Opened(owner="Ada")


def test_newer_data_is_not_read_as_if_it_were_of_a_known_schema() -> None:
    """It may mean something else, though its shape be the same: cents, where there were euros."""

    class Closed(Event, schema=2):
        owner: str

        @classmethod
        def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
            return {"owner": data["name"]}

    registry = registry_of("here", [Closed])
    newer = {"owner": "Ada", "more": 1}
    with pytest.raises(NewerMessage, match="it is of schema 3"):
        read_recorded(Recorded("Closed", 3, newer), registry)
    with pytest.raises(NewerMessage):
        read_frame(frame(b'{"owner":"Ada","more":1}', name="Closed", schema=3), registry)


def test_an_event_under_a_former_name_is_read_upcast_and_leaves_under_its_new_one() -> None:
    class AccountOpened(Opened, schema=2, formerly=["Opened"]):
        pass

    registry = registry_of("here", [AccountOpened])
    old = frame(b'{"name":"Ada"}', schema=1)
    assert read_frame(old, registry).message == AccountOpened(owner="Ada")
    event = read_recorded(Recorded("Opened", 1, {"name": "Ada"}), registry)
    assert event == AccountOpened(owner="Ada")
    assert record(event) == Recorded("AccountOpened", 2, {"owner": "Ada", "deposit": 0})


def test_an_upcast_that_fails_is_an_invalid_message() -> None:
    with pytest.raises(InvalidMessage, match="Opened, schema 1: KeyError"):
        read_recorded(Recorded("Opened", 1, {}), REGISTRY)


def test_a_stored_event_of_unknown_name_is_kept_apart_not_an_error() -> None:
    assert read_recorded(Recorded("Gone", 1, {}), REGISTRY) is unread("Gone")


def test_a_name_that_is_not_registered_is_refused() -> None:
    with pytest.raises(UnknownMessage, match="'Evil'"):
        read_frame(frame(b"{}", name="Evil"), REGISTRY)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "EOF"),
        (b"not json", "expected"),
        (b"[]", "object"),
        (b'{"deposit":1}', "owner: Field required"),
        (b'{"owner":7}', "owner: Input should be a valid string"),
        (b'{"owner":"A","deposit":NaN}', "no JSON: expected value"),
        (b'{"owner":"A","deposit":1e999}', "deposit: the number is NaN or infinite"),
        (b'{"owner":"\xff"}', "Opened"),
        (b'{"owner":"\\ud800"}', "Opened"),
        (b"x" * (MAX_BODY + 1), "over the limit"),
    ],
)
def test_a_body_that_cannot_be_the_message_is_refused_with_the_reason(
    body: bytes, reason: str
) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        read_frame(frame(body), REGISTRY)


@pytest.mark.parametrize("depth", [900, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    body = b'{"inner":' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(InvalidMessage, match="recursion"):
        read_frame(frame(body, name="Nested", schema=1), REGISTRY)


def test_reasons_do_not_repeat_the_payload() -> None:
    with pytest.raises(InvalidMessage) as caught:
        read_frame(frame(b'{"owner":{"secret":"4711"}}'), REGISTRY)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    "headers", [{"stream": "nodash"}, {"stream": 7}, {"version": 0}, {"version": "1"}]
)
def test_headers_that_make_no_sense_are_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage, match="headers 'stream' and 'version'"):
        read_frame(frame(b'{"owner":"A"}', **headers), REGISTRY)


def test_an_event_too_large_to_travel_is_refused_before_it_is_stored() -> None:
    with pytest.raises(InvalidMessage, match="over"):
        frames_of(commit(Opened(owner="x" * MAX_BODY)))


def test_a_message_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="cannot be written as JSON"):
        data_of(Nested(inner=object()))


class Trimmed(Event, schema=2):
    text: str

    @field_validator("text", mode="before")
    @classmethod
    def _strip(cls, value: Any) -> Any:
        return value.strip()

    @classmethod
    def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"text": data["parts"][7]}


def test_whatever_an_authors_validator_or_upcast_raises_it_is_the_message_that_is_wrong() -> None:
    registry: dict[str, type[Event]] = {"Trimmed": Trimmed}
    with pytest.raises(InvalidMessage, match="Trimmed: AttributeError"):
        read_frame(frame(b'{"text":5}', name="Trimmed"), registry)
    with pytest.raises(InvalidMessage, match="Trimmed, schema 1: IndexError"):
        read_recorded(Recorded("Trimmed", 1, {"parts": []}), registry)


def test_a_command_with_senseless_headers_is_refused() -> None:
    sent = command_frame(Envelope(Close(account_id="1"), "k1", NOW, "corr"))
    headers: dict[str, str | int] = {**sent.headers, "version": "abc"}
    with pytest.raises(InvalidMessage, match="an event has the headers"):
        read_frame(sent._replace(headers=headers), {"Close": Close})


class Aliased(Event):
    owner_name: str = Field(alias="ownerName")


def test_aliases_are_written_as_they_are_read() -> None:
    event = Aliased(ownerName="Ada")
    assert read_recorded(record(event), {"Aliased": Aliased}) == event


def test_an_event_that_comes_to_one_queue_alone_needs_its_place_all_the_same() -> None:
    retried = frame(b'{"owner":"A"}')._replace(address="")
    assert read_frame(retried, REGISTRY).version == 1
    with pytest.raises(InvalidMessage, match="'stream' and 'version'"):
        read_frame(frame(b'{"owner":"A"}', version=0)._replace(address=""), REGISTRY)


def test_all_reasons_are_told_to_who_asks_for_them() -> None:
    wide = pydantic.create_model(
        "Wide",
        __base__=Event,
        **dict.fromkeys("abcdefg", (int, ...)),  # type: ignore[call-overload]
    )
    with pytest.raises(InvalidMessage, match=r"e: Field required \(and 2 more\)"):
        read_frame(frame(b"{}", name="Wide", schema=1), {"Wide": wide})
    with pytest.raises(InvalidMessage, match=r"g: Field required$"):
        read_frame(frame(b"{}", name="Wide", schema=1), {"Wide": wide}, reasons=100)


def test_an_envelope_that_sets_out_has_every_field() -> None:
    envelope = new_envelope(Close(account_id="a"))
    assert envelope == Envelope(
        envelope.message, envelope.id, envelope.time, correlation_id=envelope.id
    )
    assert len(envelope) == len(Envelope._fields)
