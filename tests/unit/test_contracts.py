"""Which changes of messages break whom, rule by rule, in both directions."""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    computed_field,
    create_model,
)
from typer.testing import CliRunner

from bus import (
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    ContractFinding,
    Event,
    Fault,
    Projection,
    Query,
    Router,
    Settings,
    compare_contracts,
    contracts_of,
)
from bus.cli.main import app

Document = dict[str, Any]


class View(BaseModel):
    id: str


class GetJob(Query[View | None]):
    job_id: str


def described(*events: type[Event], commands: Sequence[type[Command]] = ()) -> Document:
    """The contracts of a service with these messages, as they come back from a file."""

    class Job(Aggregate, events=events):
        pass

    router = Router("jobs")
    for kind in commands:

        async def handle(command: kind) -> None: ...  # type: ignore[valid-type]

        router.command(handle)

    @router.query
    async def get(query: GetJob) -> View | None: ...

    projection = Projection("jobs_view", of=[Job], view=View)
    bus = Bus("board", routers=[router], projections=[projection], settings=Settings.in_memory())
    document: Document = json.loads(json.dumps(contracts_of(bus)))
    return document


def event(name: str = "Posted", /, **fields: Any) -> type[Event]:
    kind: type[Event] = shaped(Event, name, {}, fields)
    return kind


def shaped(base: Any, name: str, keywords: dict[str, Any], fields: dict[str, Any]) -> Any:
    """A message class; a field is (type, default), or a type where it is required."""
    given: Any = {key: one if isinstance(one, tuple) else (one, ...) for key, one in fields.items()}
    return create_model(name, __base__=base, __cls_kwargs__=keywords, **given)


class Upcasting(Event):
    @classmethod
    def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"cents": 100 * data["euros"]}


def told(findings: Sequence[ContractFinding], concerns: str) -> list[str]:
    """What breaks those concerned, verdict by verdict and by the field."""
    return sorted(
        f"{one.verdict} {one.what.partition(':')[0]}"
        for one in findings
        if one.concerns == concerns and one.verdict != "compatible"
    )


class Small(StrEnum):
    LOW = "low"


class Large(StrEnum):
    LOW = "low"
    HIGH = "high"


class Place(BaseModel):
    city: str


class PlaceWithStreet(BaseModel):
    city: str
    street: str


class PlaceOfNoCity(BaseModel):
    street: str = ""


OK: list[str] = []
A_BREAKS = ["breaking a"]
A_UNCLEAR = ["unclear a"]

FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], list[str]]] = {
    # name: fields before, fields now, what breaks for stored events, what for subscribers
    "nothing": ({"a": int}, {"a": int}, OK, OK),
    "a field with a default is new": ({}, {"a": (int, 0)}, OK, OK),
    "a required field is new": ({}, {"a": int}, A_BREAKS, OK),
    "a required field is gone": ({"a": int}, {}, OK, A_BREAKS),
    "a field with a default is gone": ({"a": (int, 0)}, {}, OK, OK),
    "a field has a default now": ({"a": int}, {"a": (int, 0)}, OK, OK),
    "a field has no default any more": ({"a": (int, 0)}, {"a": int}, A_BREAKS, OK),
    "another default": ({"a": (int, 0)}, {"a": (int, 1)}, OK, OK),
    "a field is renamed": ({"b": int}, {"a": int}, A_BREAKS, ["breaking b"]),
    "another type": ({"a": int}, {"a": str}, A_BREAKS, A_BREAKS),
    "a wider type": ({"a": int}, {"a": float}, OK, A_BREAKS),
    "a narrower type": ({"a": float}, {"a": int}, A_BREAKS, OK),
    "null is allowed now": ({"a": int}, {"a": int | None}, OK, A_BREAKS),
    "null is not allowed any more": ({"a": int | None}, {"a": int}, A_BREAKS, OK),
    "a value more": ({"a": Small}, {"a": Large}, OK, A_BREAKS),
    "a value less": ({"a": Large}, {"a": Small}, A_BREAKS, OK),
    "a literal more": ({"a": Literal["x"]}, {"a": Literal["x", "y"]}, OK, A_BREAKS),
    "any text instead of values": ({"a": Small}, {"a": str}, OK, A_BREAKS),
    "a greater limit": (
        {"a": Annotated[int, Field(le=5)]}, {"a": Annotated[int, Field(le=9)]}, OK, A_BREAKS,
    ),
    "a limit of length": ({"a": str}, {"a": Annotated[str, Field(max_length=9)]}, A_BREAKS, OK),
    "a pattern": ({"a": str}, {"a": Annotated[str, Field(pattern="x")]}, A_UNCLEAR, OK),
    "a nested required field is new": (
        {"a": Place}, {"a": PlaceWithStreet}, ["breaking a.street"], OK,
    ),
    "a nested required field is gone": (
        {"a": list[Place]}, {"a": list[PlaceOfNoCity]}, OK, ["breaking a[].city"],
    ),
    "values of a mapping": ({"a": dict[str, int]}, {"a": dict[str, str]}, ["breaking a.*"],
                            ["breaking a.*"]),
}  # fmt: skip


@pytest.mark.parametrize(("before", "now", "stored", "subscribers"), FIELDS.values(), ids=FIELDS)
def test_a_change_of_fields_breaks_whom_it_breaks(
    before: dict[str, Any], now: dict[str, Any], stored: list[str], subscribers: list[str]
) -> None:
    found = compare_contracts(described(event(**before)), described(event(**now)))
    assert told(found, "stored events") == stored
    assert told(found, "subscribers") == subscribers
    assert all(one.remedy for one in found if one.verdict != "compatible")
    compatible = {one.concerns for one in found if one.verdict == "compatible"}
    changed = {"stored events": not stored, "subscribers": not subscribers}
    expected = {one for one, is_fine in changed.items() if is_fine} if before != now else set()
    assert compatible == expected


def renamed(class_name: str, /, **keywords: Any) -> type[Event]:
    kind: type[Event] = shaped(Event, class_name, keywords, {"a": int})
    return kind


VERSIONS: dict[str, tuple[type[Event], type[Event], list[str], list[str]]] = {
    "a shape raised with an upcast": (
        shaped(Event, "Paid", {}, {"euros": int}),
        shaped(Upcasting, "Paid", {"schema": 2}, {"cents": int}),
        OK, ["breaking euros"],
    ),
    "an upcast without a raised schema": (
        shaped(Event, "Paid", {}, {"euros": int}),
        shaped(Upcasting, "Paid", {}, {"cents": int}),
        ["breaking cents"], ["breaking euros"],
    ),
    "a raised schema without an upcast": (
        shaped(Event, "Paid", {}, {"euros": int}),
        shaped(Event, "Paid", {"schema": 2}, {"cents": int}),
        ["breaking cents"], ["breaking euros"],
    ),
    "a raised schema and the same shape": (
        renamed("Posted"), renamed("Posted", schema=2), OK, OK,
    ),
    "a schema that sinks": (
        renamed("Posted", schema=2), renamed("Posted"), ["breaking schema 2 has become 1"], OK,
    ),
    "a renamed class that keeps its wire name": (
        renamed("Posted"), renamed("Announced", name="Posted"), OK, OK,
    ),
    "a renamed event that was never the other": (
        renamed("Posted"), renamed("Announced"), ["breaking nothing reads it any more"], OK,
    ),
    "a renamed event": (
        renamed("Posted"), renamed("Announced", formerly=["Posted"]),
        OK, ["breaking leaves as Announced, which they do not know"],
    ),
    "a renamed event whose new name was known before": (
        renamed("Posted", formerly=["Announced"]), renamed("Announced", formerly=["Posted"]),
        OK, OK,
    ),
    "a former name that is not said any more": (
        renamed("Announced", formerly=["Posted"]), renamed("Announced"),
        ["breaking is not read as Posted any more"], OK,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now", "stored", "subscribers"), VERSIONS.values(), ids=VERSIONS
)
def test_a_change_of_name_or_schema_breaks_whom_it_breaks(
    before: type[Event], now: type[Event], stored: list[str], subscribers: list[str]
) -> None:
    found = compare_contracts(described(before), described(now))
    assert told(found, "stored events") == stored
    assert told(found, "subscribers") == subscribers


COMMANDS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "a field with a default is new": ({}, {"a": (int, 0)}, OK),
    "a required field is new": ({}, {"a": int}, A_BREAKS),
    "a field is gone": ({"a": int}, {}, A_BREAKS),
    "a field with a default is gone": ({"a": (int, 0)}, {}, A_BREAKS),
    "another type": ({"a": int}, {"a": str}, A_BREAKS),
    "a wider type": ({"a": int}, {"a": float}, OK),
    "a narrower type": ({"a": float}, {"a": int}, A_BREAKS),
    "a field has no default any more": ({"a": (int, 0)}, {"a": int}, A_BREAKS),
    "a value less": ({"a": Large}, {"a": Small}, A_BREAKS),
    "a value more": ({"a": Small}, {"a": Large}, OK),
    "a pattern": ({"a": str}, {"a": Annotated[str, Field(pattern="x")]}, A_UNCLEAR),
}


@pytest.mark.parametrize(("before", "now", "senders"), COMMANDS.values(), ids=COMMANDS)
def test_a_change_of_a_command_breaks_its_older_senders_or_not(
    before: dict[str, Any], now: dict[str, Any], senders: list[str]
) -> None:
    old, new = (shaped(Command, "Post", {}, fields) for fields in (before, now))
    found = compare_contracts(described(commands=[old]), described(commands=[new]))
    assert told(found, "senders") == senders
    assert bool(senders) != any(one.verdict == "compatible" for one in found)


def test_commands_come_and_go() -> None:
    post = shaped(Command, "Post", {}, {})
    (gone,) = compare_contracts(described(commands=[post]), described())
    assert (gone.verdict, gone.what) == ("breaking", "nobody handles it any more")
    assert "keep it and its handler" in gone.remedy
    (new,) = compare_contracts(described(), described(commands=[post]))
    assert (new.verdict, new.what) == ("compatible", "is new")


def test_a_new_event_and_a_query_are_compatible() -> None:
    before, now = described(), described(event(a=int))
    now["queries"] = {}
    found = compare_contracts(before, now)
    assert [(one.verdict, one.message, one.what) for one in found] == [
        ("compatible", "event Posted", "is new"),
        ("compatible", "query GetJob", "is gone"),
    ]


def test_remedies_name_what_to_write() -> None:
    found = compare_contracts(described(event(a=int)), described())
    assert "formerly=['Posted']" in found[0].remedy
    found = compare_contracts(described(event()), described(event(a=int)))
    assert found[0].remedy == (
        "give the field a default, or raise schema= and let upcast fill it in"
    )
    assert found[0].what == "a: is required, and is missing"
    found = compare_contracts(
        described(event(a=str)), described(event(a=Annotated[str, Field(pattern="x")]))
    )
    assert found[0].what == "a: unclear what pattern = 'x' leaves out; taken for breaking"


def test_two_events_that_became_one_are_both_read() -> None:
    one, two = event("Raised", a=int), event("Lowered", a=int)
    both = shaped(Event, "Changed", {"formerly": ["Raised", "Lowered"]}, {"a": int})
    found = compare_contracts(described(one, two), described(both))
    assert told(found, "stored events") == []
    assert {one.message for one in found} == {"event Raised", "event Lowered"}


def test_an_event_is_compared_with_its_own_class_before_another_that_had_its_name() -> None:
    """Where an aggregate and another reader each have a class of the name, say."""
    before = described(event("Posted", a=int))
    now = described(event("Posted", a=int))
    other = described(shaped(Event, "Announced", {"formerly": ["Posted"]}, {"b": int}))
    now["events"] = {**other["events"], **now["events"]}
    for order in (now["events"], dict(reversed(now["events"].items()))):
        assert compare_contracts(before, {**now, "events": order}) == []


@pytest.mark.skipif(
    "exclude_if" not in signature(Field).parameters, reason="pydantic knows it since 2.12"
)
def test_what_is_written_is_every_field_but_computed_ones() -> None:
    class Computed(Event, name="Posted"):
        a: int = 0
        rare: str = Field("", exclude_if=lambda value: not value)

        @computed_field  # type: ignore[prop-decorator]
        @property
        def twice(self) -> int:
            return 2 * self.a

    written = described(Computed)["events"]["Posted"]["writes"]
    assert written["properties"].keys() == {"a", "rare"}
    assert written["required"] == ["a"]


def test_the_description_says_all_there_is_to_a_message() -> None:
    kind = shaped(Event, "Announced", {"schema": 3, "formerly": ["Posted"]}, {"a": int})
    document = described(kind, commands=[shaped(Command, "Post", {}, {})])
    assert (document["service"], document["format"]) == ("board", 1)
    told = document["events"]["Announced"]
    assert (told["schema"], told["formerly"], told["upcast"]) == (3, ["Posted"], False)
    assert document["commands"]["Post"]["reads"]["additionalProperties"] is False
    assert "anyOf" in document["queries"]["GetJob"]["answer"]


class Iban:
    def __init__(self, text: str) -> None:
        self.text = text


def test_a_message_that_cannot_be_described_is_named_with_the_remedy() -> None:
    iban = Annotated[InstanceOf[Iban], BeforeValidator(Iban), PlainSerializer(vars)]
    with pytest.raises(ConfigurationError, match=r"Posted\.a has no JSON Schema .* WithJsonSchema"):
        described(event(a=iban))


@pytest.mark.parametrize("wrong", [{}, [], {"format": 2}, None], ids=str)
def test_what_is_no_description_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="not what `bus contracts export` of this version"):
        compare_contracts(wrong, described())


SERVICE = """
from bus import Aggregate, Bus, Event, Projection, Settings
from pydantic import BaseModel

class View(BaseModel):
    id: str

class Posted(Event):
    {fields}

class Job(Aggregate, events=[Posted]):
    pass

def build(settings: Settings) -> Bus:
    jobs = Projection("jobs", of=[Job], view=View)
    return Bus("board", projections=[jobs], settings=settings)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a version of the service; returns its target."""
    monkeypatch.chdir(tmp_path)
    count = iter(range(10))

    def written(fields: str) -> str:
        name = f"board_{tmp_path.name.replace('-', '_')}_{next(count)}"
        (tmp_path / f"{name}.py").write_text(SERVICE.format(fields=fields))
        return f"{name}:build"

    return written


def test_the_commands_export_and_check(write: Callable[[str], str], tmp_path: Path) -> None:
    run = CliRunner().invoke
    first = write("title: str")
    assert run(app, ["contracts", "export", first, "contracts.json"]).exit_code == 0
    text = (tmp_path / "contracts.json").read_text()
    assert run(app, ["contracts", "export", first]).stdout == text
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"

    same = run(app, ["contracts", "check", first, "contracts.json"])
    assert (same.exit_code, same.stdout) == (0, "")
    wider = run(app, ["contracts", "check", write("title: str; pay: int = 0"), "contracts.json"])
    assert wider.exit_code == 0
    assert wider.stdout.splitlines() == [
        "compatible: event Posted, stored events: pay is new",
        "compatible: event Posted, subscribers: pay is new",
    ]
    third = write("title: str; pay: int")
    broken = run(app, ["contracts", "check", third, "-"], text)
    assert broken.exit_code == 1
    assert broken.stdout.splitlines()[:2] == [
        "breaking: event Posted, stored events: pay: is required, and is missing",
        "    give the field a default, or raise schema= and let upcast fill it in",
    ]
    as_json = run(app, ["contracts", "check", third, "contracts.json", "--json"])
    assert as_json.exit_code == 1
    report = json.loads(as_json.stdout)
    assert (report["compatible"], report["findings"][0]["verdict"]) == (False, "breaking")


def test_a_file_that_is_no_contract_is_wrong_usage(
    write: Callable[[str], str], tmp_path: Path
) -> None:
    target = write("title: str")
    (tmp_path / "odd.json").write_text("{}")
    (tmp_path / "torn.json").write_text("{")
    for file, reason in (("odd", "says no format"), ("torn", "cannot be read"), ("no", "no file")):
        result = CliRunner().invoke(app, ["contracts", "check", target, f"{file}.json"])
        assert result.exit_code == 2
        assert reason in result.stderr


def test_what_was_added_to_fault_breaks_nobody() -> None:
    router = Router("alarms")

    @router.event
    async def alert(fault: Fault) -> None: ...

    now = contracts_of(Bus("board", routers=[router], settings=Settings.in_memory()))
    texts = dict.fromkeys(["message", "message_id", "subscription", "error", "reason"], "string")
    former = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in texts.items()}
        | {"attempts": {"type": "integer"}},
        "required": [*texts, "attempts"],
    }
    described = {**now["events"]["Fault"], "reads": former, "writes": former}
    findings = compare_contracts({**now, "events": {"Fault": described}}, now)
    assert findings
    assert {one.verdict for one in findings} == {"compatible"}
