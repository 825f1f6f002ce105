"""Contracts of a service that follows another one: what it reads is its own business, and what the
other one writes is to be read."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, create_model
from typer.testing import CliRunner

from bus import (
    Aggregate,
    Bus,
    ConfigurationError,
    ContractFinding,
    Event,
    Outbox,
    Projection,
    Router,
    Settings,
    Update,
    compare_contracts,
    contracts_of,
)
from bus.cli.main import app
from bus.describe.comparing import breaks
from tests.unit.test_contracts import described, event, shaped

Document = dict[str, Any]
How = Literal["a projection", "a handler", "a projection of its own kind of aggregate"]
HOWS: list[How] = ["a projection", "a handler", "a projection of its own kind of aggregate"]


class View(BaseModel):
    id: str


def follower(how: How, *events: type[Event]) -> Document:
    """The contracts of a service that follows the jobs of another one."""
    router, projections = Router("mails"), []
    if how == "a handler":
        for kind in events:

            async def handle(event: kind) -> None: ...  # type: ignore[valid-type]

            router.event(handle)
    else:
        recorded = events if "aggregate" in how else ()

        class Job(Aggregate, events=recorded):
            pass

        projection = Projection("jobs", of=[Job], view=View)
        for kind in events:

            def on(event: kind) -> Update:  # type: ignore[valid-type]
                return {}

            projection.on(kind)(on)
        projections.append(projection)
    bus = Bus(
        "mails",
        routers=[router],
        projections=projections,
        foreign={"job": "board"},
        settings=Settings.in_memory(),
    )
    document: Document = json.loads(json.dumps(contracts_of(bus)))
    return document


def told(found: list[ContractFinding]) -> list[tuple[str, str, str]]:
    return [(one.verdict, one.concerns, one.what) for one in found]


@pytest.mark.parametrize("how", HOWS)
def test_what_a_follower_reads_breaks_nobody(how: How) -> None:
    before = follower(how, event(title=str), event("Closed"))
    assert compare_contracts(before, before) == []
    now = follower(how, event(title=(str, ""), pay=int))
    found = compare_contracts(before, now)
    assert not breaks(found)
    assert told(found) == [
        ("compatible", "the service itself", "pay is new; title has changed"),
        ("compatible", "the service itself", "is not read any more"),
    ]
    assert told(compare_contracts(now, before))[-1] == (
        "compatible", "the service itself", "is new",
    )  # fmt: skip


@pytest.mark.parametrize("how", HOWS)
def test_what_was_described_by_a_release_before_is_compared_too(how: How) -> None:
    before = described(event(title=str))
    found = compare_contracts(before, follower(how, event(pay=int)))
    events = [one for one in found if one.message == "event Posted"]
    assert told(events) == [
        ("compatible", "the service itself", "is followed from service 'board', and only read")
    ]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("written", "read", "expected"),
    [
        ({"title": str, "pay": int}, {"title": str}, []),
        ({"title": str}, {"title": (str, ""), "pay": (int, 0)}, []),
        ({"title": str}, {"title": str, "pay": int}, ["pay: is required, and is missing"]),
        ({"pay": float}, {"pay": int}, ["pay: may be number, and only integer is read"]),
    ],
)
def test_what_the_owner_writes_is_compared_with_what_is_read(
    how: How, written: Document, read: Document, expected: list[str]
) -> None:
    own = follower(how, event(**read))
    owner = described(event(**written), event("Other"))
    found = compare_contracts(own, own, owners=[owner])
    assert [one.what for one in found] == expected
    assert {(one.verdict, one.concerns) for one in found} <= {("breaking", "the service itself")}
    assert all(one.remedy for one in found)


def test_a_schema_of_the_owners_that_is_not_known_is_told() -> None:
    own = follower("a handler", event(title=str))
    owner = described(shaped(Event, "Posted", {"schema": 2}, {"title": str}))
    (found,) = compare_contracts(own, own, owners=[owner])
    assert (found.verdict, found.what) == (
        "breaking", "service 'board' writes schema 2, and 1 is read",
    )  # fmt: skip


def test_a_former_name_is_looked_for_at_the_owner() -> None:
    renamed: Any = create_model(
        "Advertised",
        __base__=Event,
        __cls_kwargs__={"formerly": ["Posted"]},
        title=(str, ...),
    )
    own, owner = follower("a handler", renamed), described(event(pay=int))
    (found,) = compare_contracts(own, own, owners=[owner])
    assert found.message == "event Posted"


def test_the_description_of_a_service_that_is_not_followed_is_refused() -> None:
    own = follower("a handler", event())
    with pytest.raises(ConfigurationError, match="mails follows no service 'mails'; it follows 'b"):
        compare_contracts(own, own, owners=[own])


def test_an_event_that_this_service_may_publish_counts_as_its_own() -> None:
    """It has an Outbox, and nothing tells that the event that its router handles is another's."""

    def own(*events: type[Event]) -> Document:
        router = Router("mails")
        for kind in events:

            async def handle(event: kind, outbox: Outbox) -> None: ...  # type: ignore[valid-type]

            router.event(handle)
        settings = Settings.in_memory()
        bus = Bus("mails", routers=[router], foreign={"job": "board"}, settings=settings)
        document: Document = json.loads(json.dumps(contracts_of(bus)))
        return document

    assert breaks(compare_contracts(own(event(title=str)), own(event())))


FOLLOWER = """
from bus import Bus, Event, Router, Settings

mails = Router("mails")

class Posted(Event):
    title: str

@mails.event
async def mail(event: Posted) -> None: ...

def build(settings: Settings) -> Bus:
    return Bus("mails", routers=[mails], foreign={"job": "board"}, settings=settings)
"""


def test_the_command_compares_with_the_owners_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"mails_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FOLLOWER)
    (tmp_path / "board.json").write_text(json.dumps(described(event(title=str))))
    (tmp_path / "poor.json").write_text(json.dumps(described(event())))
    run = CliRunner().invoke
    assert run(app, ["contracts", "export", f"{name}:build", "own.json"]).exit_code == 0
    check = ["contracts", "check", f"{name}:build", "own.json", "--owner"]
    assert run(app, [*check, "board.json"]).exit_code == 0
    broken = run(app, [*check, "poor.json"])
    assert broken.exit_code == 1
    assert broken.stdout.splitlines()[0] == (
        "breaking: event Posted, the service itself: title: is required, and is missing"
    )
