"""Limits of ids and headers are met at the call, and told in the unit that counts."""

import uuid
from collections.abc import AsyncIterator
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    InvalidMessage,
    Outbox,
    Projection,
    ProjectionError,
    Query,
    Receipt,
    Repository,
    Router,
    Settings,
    Update,
    Worker,
)
from bus.data.limits import (
    MAX_COUNT,
    MAX_HEADERS,
    MAX_KEY,
    MAX_WORD,
    MOST_AGGREGATE_ID,
    MOST_COMMAND_ID,
    OWN_BYTES,
    OWN_COUNT,
    check_aggregate_id,
    check_headers,
    check_id,
)
from bus.stores.documents.values import Unstorable, stored
from bus.testing import given

SOME_UUID = uuid.UUID(int=7)


class Open(Command):
    account_id: Any


class Opened(Event):
    owner: Any = ""


class Account(Aggregate, events=[Opened]): ...


class View(BaseModel):
    owner: Any


class Get(Query[View | None]):
    key: Any


router = Router("accounts")
views = Projection("views", of=[Account], view=View)


@router.command
async def open_account(command: Open, repository: Repository[Account]) -> None:
    if await repository.find(command.account_id) is None:
        account = Account(command.account_id)
        account.record(Opened())
        repository.add(account)


@router.query
async def get(query: Get, documents: Documents[View]) -> View | None:
    return await documents.get(query.key)


@views.on(Opened)
def opened(event: Opened) -> Update:
    return {"$set": {"owner": event.owner}}


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    settings = Settings.in_memory()
    async with Bus("bank", routers=[router], projections=[views], settings=settings) as bus:
        yield bus


async def test_a_uuid_is_told_to_be_made_text(bus: Bus) -> None:
    remedy = r"of type UUID: give str\(\.\.\.\) of it"
    with pytest.raises(InvalidMessage, match=f"the id of an Account .*{remedy}"):
        Account(SOME_UUID)  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage, match=f"the id of an Account .*{remedy}"):
        await bus.execute(Open(account_id=SOME_UUID))
    with pytest.raises(ProjectionError, match=f"a document's key .*{remedy}"):
        await bus.query(Get(key=SOME_UUID))
    options: list[dict[str, Any]] = [
        {"id": SOME_UUID},
        {"correlation_id": SOME_UUID},
        {"headers": {"tenant": SOME_UUID}},
        {"headers": {SOME_UUID: "a"}},
    ]
    for one in options:
        for call in (bus.execute, bus.send, bus.request):
            with pytest.raises(InvalidMessage, match=remedy):
                await call(Open(account_id="a"), **one)
        with pytest.raises(InvalidMessage, match=remedy):
            await bus.publish(Opened(), **one)


@pytest.mark.parametrize("headers", ["x", [("tenant", "a")], {"tenant"}, 5], ids=repr)
async def test_headers_that_are_no_mapping_are_told(bus: Bus, headers: Any) -> None:
    remedy = (
        r'headers= is of type \w+; give a dict of text to text, as in headers=\{"tenant": "a"\}'
    )
    for call in (bus.execute, bus.send, bus.request):
        with pytest.raises(InvalidMessage, match=remedy):
            await call(Open(account_id="a"), headers=headers)
    with pytest.raises(InvalidMessage, match=remedy):
        await bus.publish(Opened(), headers=headers)
    given = MappingProxyType({"tenant": "a"})
    assert (await bus.execute(Open(account_id="a"), headers=given)).versions


class Tenant(StrEnum):
    A = "tenant-a"


class Region(str, Enum):  # noqa: UP042 (its format() is its name)
    A = "region-a"


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize("text", [Tenant.A, Region.A, Name("name-a")])
async def test_a_subclass_of_str_is_its_plain_text_wherever_text_is_taken(
    bus: Bus, text: str
) -> None:
    plain = str.__str__(text)
    command = Open(account_id=plain)
    options: dict[str, Any] = {"id": text, "correlation_id": text, "headers": {text: text}}
    async with Worker(bus):
        receipt = await bus.request(command, **options)
        assert dict(receipt.versions) == {f"account-{plain}": 1}
        assert await bus.execute(command, **options) == receipt
        assert await bus.query(Get(key=text), after=receipt) == View(owner="")
    await bus.publish(Opened(), **options | {"id": Name("fact")})
    (commit,) = await bus.runtime.event_log.read(f"account-{plain}")
    assert (commit.id, commit.correlation_id, commit.headers) == (plain, plain, {plain: plain})
    kept = [commit.id, commit.correlation_id, *commit.headers, *commit.headers.values()]
    assert {type(one) for one in kept} == {str}


@pytest.mark.parametrize("text", [Tenant.A, Region.A, Name("name-a")])
async def test_an_aggregates_id_may_be_of_a_subclass_of_str(bus: Bus, text: str) -> None:
    plain = str.__str__(text)
    assert (Account(text).stream, type(Account(text).id)) == (f"account-{plain}", str)
    await bus.execute(Open(account_id=plain))
    found = await Repository(Account, bus.runtime.event_log).get(text)
    assert (found.version, found.stream, type(found.id)) == (1, f"account-{plain}", str)


@pytest.mark.parametrize("text", [Tenant.A, Region.A, Name("name-a")])
async def test_a_documents_key_may_be_of_a_subclass_of_str(text: str) -> None:
    written = Projection("written", of=[Account], view=View)

    @written.on(Opened)
    async def opened(event: Opened, documents: Documents[View]) -> list[tuple[str, Update]]:
        await documents.update(text, {"$set": {"owner": "Ada"}})
        return [(text, {"$set": {"more": 1}})]

    folded = given(Account, "a", Opened()).project(written)
    assert {(key, type(key)) for key in folded.documents} == {(str.__str__(text), str)}


@pytest.mark.parametrize("character", ["a", "é", "語", "🚌"])
async def test_every_id_within_its_limit_goes_all_the_way_and_one_beyond_is_refused(
    bus: Bus, character: str
) -> None:
    size = len(character.encode())
    id, correlation_id = character * (MOST_COMMAND_ID // size), character * (MAX_WORD // size)
    account_id = character * MOST_AGGREGATE_ID
    headers = {character * (MAX_KEY // size): character * 1000}
    command = Open(account_id=account_id)
    options: dict[str, Any] = {"correlation_id": correlation_id, "headers": headers}
    async with Worker(bus):
        receipt = await bus.request(command, id=id, **options)
        assert await bus.query(Get(key=account_id), after=receipt) == View(owner="")
        assert await bus.execute(command, id=id, **options) == receipt
    for name, more in {"id": id, "correlation_id": correlation_id}.items():
        with pytest.raises(InvalidMessage, match=r"bytes, and this one has \d+ bytes"):
            await bus.execute(command, **{**options, name: more + character})
    with pytest.raises(InvalidMessage, match=f"1 to {MAX_KEY} bytes"):
        await bus.execute(command, headers={character * (MAX_KEY // size + 1): ""})
    with pytest.raises(InvalidMessage, match="1 to 200 characters, and this one has 201"):
        await bus.execute(Open(account_id=account_id + character))


async def test_the_unit_is_told_where_it_is_not_the_character(bus: Bus) -> None:
    with pytest.raises(InvalidMessage, match=r"200 bytes in UTF-8 \(100 characters\)"):
        await bus.execute(Open(account_id="a"), id="é" * 100)


def headers_of(count: int, size: int) -> dict[str, str]:
    """So many headers that count so many bytes together."""
    each = {f"h{number:03}": "" for number in range(count)}
    taken = sum(len(key) + 8 for key in each)
    return {**each, "h000": "x" * (size - taken)}


async def test_headers_leave_room_for_those_that_the_bus_adds(bus: Bus) -> None:
    most, largest = MAX_COUNT - OWN_COUNT, MAX_HEADERS - OWN_BYTES
    await bus.execute(Open(account_id="a" * 200), headers=headers_of(most, largest))
    with pytest.raises(InvalidMessage, match=f"{most} headers, and this one has 91"):
        await bus.execute(Open(account_id="b"), headers=headers_of(most + 1, largest))
    with pytest.raises(InvalidMessage, match=f"{largest} bytes together.*{largest + 1}"):
        await bus.execute(Open(account_id="b"), headers=headers_of(1, largest + 1))
    with pytest.raises(InvalidMessage, match=r"'version' is one of the bus's own.*rename yours"):
        await bus.execute(Open(account_id="b"), headers={"version": "1"})


@pytest.mark.parametrize("streams", [100, 150, 5000])
def test_a_receipt_reads_back_whatever_it_wrote(streams: int) -> None:
    receipt = Receipt("", {f"account-{number}": number for number in range(streams)})
    assert Receipt.from_token(receipt.token) == receipt


@pytest.mark.parametrize("token", [b"a-1=1", 7, f"a-1={2**63}", "a-1=-1", "a-1=" + "9" * 5000])
def test_a_token_that_no_receipt_has_is_refused(token: Any) -> None:
    with pytest.raises(InvalidMessage, match="is not the token of a receipt"):
        Receipt.from_token(token)


async def test_a_token_given_for_a_receipt_is_told_to_be_read(bus: Bus) -> None:
    token: Any = (await bus.execute(Open(account_id="a"))).token
    remedy = r"takes a Receipt, and this is of type str; Receipt.from_token\(...\)"
    with pytest.raises(InvalidMessage, match=remedy):
        await bus.query(Get(key="a"), after=token)
    with pytest.raises(InvalidMessage, match=remedy):
        await bus.execute(Open(account_id="a"), after=token)
    with pytest.raises(InvalidMessage, match=remedy):
        await anext(bus.watch(Get(key="a"), after=token))


@pytest.mark.parametrize("after", [None, Receipt("", {})])
async def test_what_is_no_command_is_not_carried_out(bus: Bus, after: Receipt | None) -> None:
    wrong: dict[Any, str] = {
        Get(key="a"): r"a Command, and Get is a Query: give it to bus\.query",
        Opened(): r"a Command, and Opened is an Event: let an aggregate record it, or give",
        Open: "a Command, and this is a class: make an object of it",
        7: "a Command, and this is of type int",
    }
    for message, told in wrong.items():
        for id in (None, "x"):
            with pytest.raises(InvalidMessage, match=f"execute takes {told}"):
                await bus.execute(message, after=after, id=id)
        for call in (bus.send, bus.request):
            with pytest.raises(InvalidMessage, match=f"send or request takes {told}"):
                await call(message)
        with pytest.raises(InvalidMessage, match=f"Outbox.send takes {told}"):
            Outbox("").send(message)


@pytest.mark.parametrize("after", [None, Receipt("", {})])
async def test_what_is_no_query_is_not_answered(bus: Bus, after: Receipt | None) -> None:
    command: Any = Open(account_id="a")
    told = r"query takes a Query, and Open is a Command: give it to bus\.execute"
    with pytest.raises(InvalidMessage, match=told):
        await bus.query(command, after=after)
    with pytest.raises(InvalidMessage, match="watch takes a Query, and Open is a Command"):
        bus.watch(command)


async def test_what_is_no_event_is_not_published(bus: Bus) -> None:
    command: Any = Open(account_id="a")
    for id in (None, "x"):
        with pytest.raises(InvalidMessage, match="publish takes an Event, and Open is a Command"):
            await bus.publish(command, id=id)
    with pytest.raises(InvalidMessage, match="publish takes an Event, and this is a class"):
        Outbox("").publish(Opened)  # type: ignore[arg-type]


class Level(Enum):
    HIGH = 1


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (None, "leave the header out"),
        (b"x", r"give value\.decode\(\), or value\.hex\(\)"),
        (Level.HIGH, r"give str\(\.\.\.\) of its value"),
        (["x"], "give what tells it from others, as text"),
        (5, r"give str\(\.\.\.\) of it"),
        (uuid.UUID(int=5), r"give str\(\.\.\.\) of it"),
    ],
)
def test_what_is_no_text_is_told_how_it_becomes_some_that_tells_it_apart(
    value: Any, remedy: str
) -> None:
    with pytest.raises(InvalidMessage, match=f"{remedy}$"):
        check_headers({"tenant": value}, ())
    remedy = "give the text that it is to be" if value is None else remedy
    with pytest.raises(InvalidMessage, match=f"{remedy}$"):
        check_aggregate_id(value, "Account")
    with pytest.raises(InvalidMessage, match=f"{remedy}$"):
        check_id(value)


@pytest.mark.parametrize(
    ("key", "remedy"),
    [(None, "leave it out, or"), (b"x", r"give value\.decode"), ((1, 2), "as text, or")],
)
def test_a_key_of_a_dictionary_is_told_so_too(key: Any, remedy: str) -> None:
    with pytest.raises(Unstorable, match=remedy):
        stored({key: 1})
