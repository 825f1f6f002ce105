"""What a message's data may not be, on the way in and on the way out."""

import math
from typing import Any

import pytest

from bus import Bus, Command, Event, InvalidMessage, ProjectionError, Router, Settings
from bus.codec import read_frame, record
from bus.common import clock
from bus.data.limits import MAX_COUNT
from bus.data.payload import MAX_DEPTH
from bus.read.documents import refuse_scripts
from bus.stores.documents.updates import checked
from bus.transports.base import Frame


class Noted(Event):
    number: int = 0
    text: str = ""
    ratio: float = 0.0
    rest: Any = None


class Note(Command):
    rest: Any = None


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def frame(body: bytes, name: str = "Noted", id: str = "i1", **headers: str | int) -> Frame:
    full: dict[str, str | int] = {"stream": "note-1", "version": 1, "schema": 1, **headers}
    return Frame("events", "note.Noted.1", id, name, body, clock.now(), "c", full)


BODIES = [
    (b'{"rest":NaN}', "no JSON"),
    (b'{"rest":-Infinity}', "no JSON"),
    (b'{"ratio":1e999}', "infinite"),
    (b'{"rest":[1e999]}', "infinite"),
    (b'{"number":9223372036854775808}', "more than 64 bits"),
    (b'{"rest":{"a":-9223372036854775809}}', "more than 64 bits"),
    (b'{"number":' + b"9" * 5000 + b"}", "no JSON|more than 64 bits"),
    (b'{"number":1,"number":2}', "twice"),
    (b'{"number":1,"\\u006eumber":2}', "twice"),
    (b'{"rest":{"a":1,"a":2}}', "twice"),
    (b'{"text":"a:b","text":"c"}', "twice"),
    (b'{"text":"x","text":"\\u003a"}', "twice"),
    (b'{"text":"\\ud800"}', "no JSON"),
    (b'{"text":"\xff"}', "no JSON"),
    (b'{"rest":{"$ref":"a","$id":1}}', r"begins with \$"),
    (b'{"rest":[{"a":{"\\u0024x":1}}]}', r"begins with \$"),
    (b'{"rest":{"a\\u0000b":1}}', "NUL"),
    (b'{"rest":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested more than"),
    (b"[" * 100_000, "no JSON"),
]


@pytest.mark.parametrize(("body", "reason"), BODIES)
def test_what_a_part_of_the_way_would_misread_does_not_come_in(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage, match=rf"^Noted(\.[^:]+)?: .*({reason})"):
        read_frame(frame(body), {"Noted": Noted})


@pytest.mark.parametrize(
    "body",
    [
        b'{"number":9223372036854775807,"ratio":1e300,"text":"a:b \\u003a \\" : {"}',
        b'{"rest":{"a.b":1,"":2,"c:d":{"e":"f:g"}}}',
        b'{"rest":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
    ],
)
def test_what_is_unusual_but_sound_comes_in(body: bytes) -> None:
    assert read_frame(frame(body), {"Noted": Noted}).message


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (math.nan, "NaN or infinite"),
        ({"a": [math.inf]}, "NaN or infinite"),
        (2**63, "more than 64 bits"),
        ("\ud800", "UTF-8 cannot encode"),
        ({"\ud800": 1}, "UTF-8 cannot encode|surrogates"),
        ({"$ref": "a", "$id": 1}, r"begins with \$"),
        ({"a\0b": 1}, "NUL"),
        (deep(MAX_DEPTH + 1), "nested more than"),
        (deep(500), "depth|deep|recursion|Circular"),
        (object(), "serialize"),
    ],
)
async def test_nor_does_it_go_out_quietly_changed(rest: Any, reason: str) -> None:
    """Left alone, NaN becomes null, a surrogate another character, `$ref` another type."""
    with pytest.raises(InvalidMessage, match=reason):
        record(Noted(rest=rest))
    router = Router("notes")

    @router.command
    async def note(command: Note) -> Any:
        return rest

    async with Bus("notes", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(
            InvalidMessage, match=r"what it returned, of type .*, cannot be stored as '-> "
        ):
            await bus.execute(Note())


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        (math.nan, "Noted.rest: the number"),
        ({"a": [1, {"b": math.inf}]}, r"Noted.rest.a.1.b: the number"),
        ({"a": [2**63]}, r"Noted.rest.a.0: the integer"),
        ({"a": {"$b": 1}}, r"Noted.rest.a: a key"),
        ({"a\nb": ["x", "\ud800"]}, "Noted.rest.?.1: the text"),
        (deep(MAX_DEPTH + 1), r"Noted.rest.a.a.a.a.a...: nested"),
    ],
)
def test_the_field_is_named(rest: Any, place: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        record(Noted(rest=rest))
    assert str(raised.value).startswith(place)


def test_no_reason_quotes_a_value() -> None:
    bodies = [body.replace(b"1,", b"4711,") for body, _ in BODIES]
    for body in [*bodies, b'{"number":"secret-4711"}', b'{"ratio":{"4711":4711}}']:
        with pytest.raises(InvalidMessage) as raised:
            read_frame(frame(body), {"Noted": Noted})
        assert "4711" not in str(raised.value)
        assert len(str(raised.value)) < 300


def test_headers_have_limits_on_the_way_in_too() -> None:
    many = {f"h{number}": "x" for number in range(MAX_COUNT)}
    for headers in (many, {"h": "x" * 33_000}, {"h" * 200: "x"}):
        with pytest.raises(InvalidMessage, match="headers over"):
            read_frame(frame(b"{}", **headers), {"Noted": Noted})


def test_no_header_may_come_back_from_the_log_as_another_type() -> None:
    for headers in ({"$ref": "a", "$id": "b"}, {"a\0b": "c"}):
        with pytest.raises(InvalidMessage, match="headers: a key"):
            read_frame(frame(b"{}", **headers), {"Noted": Noted})


async def test_no_such_header_can_be_given_to_a_command() -> None:
    router = Router("notes")

    @router.command
    async def note(command: Note) -> None: ...

    async with Bus("notes", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(InvalidMessage, match=r"begins with \$"):
            await bus.execute(Note(), headers={"$ref": "a", "$id": "b"})


@pytest.mark.parametrize("id", ["", "a/2", "a\nb", "x" * 151])
def test_a_command_that_comes_in_has_an_id_as_ours_have(id: str) -> None:
    with pytest.raises(InvalidMessage, match="the id of a message"):
        read_frame(frame(b"{}", "Note", id), {"Note": Note})


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"_version": 9}},
        {"$inc": {"_hidden.x": 1}},
        {"$unset": {"_id": ""}},
        {"$rename": {"a": "_version"}},
        {"$set": {"$x": 1}},
        {"$set": {"a.$.b": 1}},
        {"$set": {"a..b": 1}},
        {"$set": {"": 1}},
        {"$set": {"a\0": 1}},
        {"$set": {4711: 1}},
    ],
)
def test_an_update_whose_fields_mongodb_would_misread_is_refused(update: Any) -> None:
    with pytest.raises(ProjectionError, match="the update of 'k1'"):
        checked("k1", update)


def test_an_update_may_reach_into_a_document() -> None:
    update = {"$set": {"a.b": 1, "items.0": 2, "items.$[].seen": True}, "$rename": {"x": "y"}}
    assert checked("k1", update) == update


def test_an_error_about_an_update_quotes_no_value() -> None:
    for update in ("4711", {"$set": "4711"}):
        with pytest.raises(ProjectionError) as raised:
            checked("k1", update)
        assert "4711" not in str(raised.value)


@pytest.mark.parametrize(
    "filter",
    [
        {"$where": "while (true) {}"},
        {"$or": [{"a": 1}, {"$where": "1"}]},
        {"$expr": {"$function": {"body": "1", "args": [], "lang": "js"}}},
    ],
)
def test_a_filter_runs_no_script_in_the_database(filter: Any) -> None:
    with pytest.raises(ProjectionError, match="no script"):
        refuse_scripts(filter)
