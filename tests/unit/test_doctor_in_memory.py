"""`bus doctor` in memory: what it says of what surrounds a service and of what waits, its order,
its output and its exit status."""

import asyncio
import json
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bus import Bus, ConfigurationError, Settings, StoreUnavailable
from bus.cli.main import app
from bus.observe.health import Check, Finding, fault, fine, of_problem
from bus.operate.doctor import broker, doctor, patient, surroundings, work
from bus.operate.doctor.doctor import PARTS, Doctor
from bus.operate.doctor.patient import Patient, asked
from bus.operate.doctor.surroundings import unmet
from bus.stores.deadletters import GROUPED
from bus.telemetry.switch import Providers
from tests.service.wallet import build

SERVICE = """
from bus import Bus, Settings

def build(settings: Settings) -> Bus:
    return Bus("tiny", settings=settings)
"""
IN_MEMORY = Settings.in_memory()


def tiny(settings: Settings = IN_MEMORY) -> Bus:
    return Bus("tiny", settings=settings)


async def found(bus: Bus, *only: str) -> list[Finding]:
    return await Doctor(bus).examine(only)


# --- as a whole


async def test_each_part_is_told_in_its_order_and_the_bus_need_not_be_open() -> None:
    began: list[str] = []
    bus = tiny()
    told = await Doctor(bus).examine(begins=began.append)
    assert began == [*PARTS]
    parts = [finding.part for finding in told]
    assert parts == sorted(parts, key=[*PARTS].index)
    assert {"settings", "libraries", "broker", "database", "log", "contents", "work"} <= {*parts}
    async with bus:  # as if nothing had been
        assert (await bus.health()).ready


async def test_a_service_in_memory_has_no_errors_and_a_warning_of_each_setting() -> None:
    told = [finding for finding in await found(tiny()) if finding.level != "ok"]
    assert [(finding.part, finding.promise) for finding in told] == [("settings", "G1")] * 2
    assert all("memory://" in finding.what and finding.remedy for finding in told)


async def test_only_the_parts_that_are_asked_for_are_examined() -> None:
    assert {finding.part for finding in await found(tiny(), "log", "settings")} == {
        "settings",
        "log",
    }
    with pytest.raises(ConfigurationError, match="there is no part 'brocker' to examine; there"):
        await found(tiny(), "brocker")


async def test_what_a_part_needs_is_told_where_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(runtime: Any) -> None:
        raise StoreUnavailable("the database is away; start it")

    monkeypatch.setitem(patient.OPENINGS, "database", away)
    told = await found(tiny(), "work")
    assert told == [fault("the database is away", "start it")._replace(part="database")]
    every = await found(tiny())
    assert [finding.part for finding in every if finding.level == "error"] == ["database"]
    assert {"settings", "broker"} <= {finding.part for finding in every}


async def test_a_question_that_is_not_answered_or_fails_is_a_finding() -> None:
    async def never() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def broken() -> Iterable[Finding]:
        raise KeyError("x")

    (silent,) = await asked("a store", never(), within=0.01)
    assert (silent.level, silent.what) == ("error", "a store: no answer within 0 s")
    assert "frozen" in silent.remedy
    (failed,) = await asked("a store", broken())
    assert (failed.level, failed.what) == ("error", "a store: KeyError: 'x'")


async def test_a_broker_has_time_for_each_of_its_urls() -> None:
    bus = tiny(urls(amqp_url="amqp://a.example/,amqp://b.example/"))
    assert Patient(bus.unopened()).by_urls(patient.OPEN_WITHIN) == 2 * patient.OPEN_WITHIN
    assert Patient(tiny().unopened()).by_urls(patient.OPEN_WITHIN) == patient.OPEN_WITHIN


def test_a_problem_in_words_is_split_into_what_it_is_and_what_to_do() -> None:
    assert of_problem("it is away; start it; or wait", "else") == fault(
        "it is away", "start it; or wait"
    )
    assert of_problem("it is away", "see to it", "G1") == fault("it is away", "see to it", "G1")


# --- what waits


async def test_what_waits_is_told_with_the_command_that_helps() -> None:
    bus = build(IN_MEMORY)
    async with bus:
        letter = {**dict.fromkeys(GROUPED, ""), "_id": "one", "fingerprint": "f", "queue": "mail"}
        await bus.runtime.control.add_dead_letter(letter)
        told = await found(bus, "work")
    (given_up,) = [finding for finding in told if "dead letters" in finding.what]
    assert given_up.what == "dead letters: 1 of 1 kinds, from mail"
    assert "`bus deadletters groups APP`" in given_up.remedy


@pytest.mark.parametrize(
    ("part", "what", "words", "promise"),
    [
        ("relay", "the oldest unpublished commit is 9 s old", "`bus relay APP`", "G1"),
        ("projection a", "events not applied: 1, for 9 s", "`bus projections status APP`", "G10"),
        ("projection a", "streams parked: 1", "`bus deadletters show APP COLLECTION/STREAM`", "G3"),
        ("history of a", "it is still being fetched", "that it is fetched from", "G14"),
    ],
)
async def test_whatever_waits_has_its_remedy_and_its_promise(
    part: str, what: str, words: str, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> str:
        return what

    async with tiny() as bus:
        runtime = bus.unopened()
        runtime.checkup.add([Check(part, ask)])
        (told,) = await work.examined(Patient(runtime))
    assert (told.level, told.what, told.promise) == ("warning", f"{part}: {what}", promise)
    assert words in told.remedy


# --- settings


def urls(**values: str) -> Settings:
    return Settings(
        **{"amqp_url": "amqp://localhost/", "mongo_url": "mongodb://localhost", **values}
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, ""),
        ({"amqp_url": "amqp://bank:secret@mq.example:5672/"}, "BUS_AMQP_URL goes to mq.example"),
        ({"amqp_url": "amqp://localhost/,amqp://b.example/"}, "BUS_AMQP_URL goes to b.example"),
        ({"amqp_url": "amqps://mq.example/"}, ""),
        ({"mongo_url": "mongodb://u:p@a.example,b.example/?tls=true"}, ""),
        (
            {"mongo_url": "mongodb://u:p@[::1]:27017,b.example:1/"},
            "BUS_MONGO_URL goes to b.example",
        ),
        ({"management_url": "http://mq.example:15672"}, "BUS_MANAGEMENT_URL goes to mq.example"),
        ({"management_url": "https://mq.example:15671"}, ""),
        ({"log_url": "postgresql+asyncpg://u:p@db.example/bank"}, "BUS_LOG_URL goes to db.example"),
        ({"log_url": "postgresql+asyncpg://u:p@db.example/bank?tls=true"}, ""),
        ({"log_url": "postgresql+asyncpg://u:p@db.example/bank?cafile=ca.pem"}, ""),
        ({"log_url": "postgresql+asyncpg:///bank?host=b.example"}, "BUS_LOG_URL goes to b.example"),
        (
            {"log_url": "postgresql+asyncpg:///bank?host=localhost:1&host=b.example:1"},
            "BUS_LOG_URL goes to b.example",
        ),
        ({"log_url": "postgresql+asyncpg:///bank?host=/run/postgresql"}, ""),
        ({"mongo_url": "mongodb+srv://u:p@a.example/"}, ""),
        ({"mongo_url": "mongodb+srv://a.example/?tls=false"}, "BUS_MONGO_URL goes to a.example"),
        ({"mongo_url": "mongodb://a.example/?tlsCAFile=ca.pem"}, ""),
        ({"mongo_url": "mongodb://a.example/?ssl=true"}, ""),
        ({"amqp_url": "amqp://b.example/?cafile=ca.pem"}, "BUS_AMQP_URL goes to b.example"),
    ],
)
async def test_a_server_elsewhere_without_tls_is_a_warning(
    values: dict[str, str], told: str
) -> None:
    seen = Patient(tiny().unopened()._replace(settings=urls(**values)))
    warned = [one for one in await surroundings.settings(seen) if one.level == "warning"]
    assert [finding.what.partition(" without TLS")[0] for finding in warned] == [told] * bool(told)
    assert not any("secret" in finding.what for finding in warned)


# --- libraries


def test_libraries_of_other_versions_and_missing_ones_are_told_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"aiormq": "7.2.3", "aio-pika": "10.2", "sqlalchemy": "3.0", "typer": "0.16.1"}
    monkeypatch.setattr(surroundings, "installed", lambda name: there.get(name, ""))
    required = [
        "aio-pika<11,>=10.2",
        "aiormq<8,>=7.2.4",
        "typer>=0.16",
        "structlog>=24.1",
        'sqlalchemy[asyncio]<3,>=2.0.43; extra == "postgresql"',
        'sqlalchemy[asyncio]<3,>=2.0.43; extra == "mysql"',
        'aiokafka<0.15,>=0.12; extra == "kafka"',
        'mypy>=99; extra == "dev"',
    ]
    told = {finding.what: finding.remedy for finding in unmet(required)}
    assert told == {
        "aiormq is 7.2.3, and this release needs <8,>=7.2.4": "pip install 'aiormq<8,>=7.2.4'",
        "structlog is not installed": "pip install 'structlog>=24.1'",
        "sqlalchemy is 3.0, and this release needs <3,>=2.0.43": (
            "pip install 'sqlalchemy<3,>=2.0.43'"
        ),
    }


async def test_those_that_the_tests_run_with_are_of_the_versions_that_are_required() -> None:
    (told,) = await found(tiny(), "libraries")
    assert told.level == "ok"
    assert f"pymongo {metadata.version('pymongo')}" in told.what


# --- telemetry


async def test_an_exporter_that_is_asked_for_and_not_there_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surroundings, "providers", lambda runtime: Providers())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    told, metrics = await found(tiny(), "telemetry")
    assert (metrics.level, metrics.what[:13]) == ("ok", "metrics: none")
    assert told.level == "warning"
    assert told.what.startswith("OTEL_EXPORTER_OTLP_ENDPOINT is set, and nothing exports")
    assert "opentelemetry-instrument" in told.remedy
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert {finding.level for finding in await found(tiny(), "telemetry")} == {"ok"}
    monkeypatch.undo()
    never = tiny(Settings.in_memory(telemetry="never"))
    (told,) = await found(never, "telemetry")
    assert told.what == "BUS_TELEMETRY=never: no traces, no metrics"


class Sampling:
    """A provider of tracers as OpenTelemetry's, which samples one of ten."""

    sampler: Any

    def __init__(self) -> None:
        self.sampler = self

    def get_description(self) -> str:
        return "ParentBased{root:TraceIdRatioBased{0.1},...}"


async def test_traces_that_are_left_out_twice_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = Providers(Sampling(), object())
    monkeypatch.setattr(surroundings, "providers", lambda runtime: given)
    told, metrics = await found(tiny(Settings.in_memory(trace_share=0.5)), "telemetry")
    assert (told.level, told.remedy[:18]) == ("warning", "set one of them to")
    assert metrics.what == "metrics go to OpenTelemetry's meter"
    told, _ = await found(tiny(), "telemetry")
    assert told.what == "OpenTelemetry is set up here; BUS_TRACE_SHARE=1"


async def test_a_health_port_without_metrics_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    own = tiny(Settings.in_memory(health_port=8001))
    assert (await found(own, "telemetry"))[1].what.startswith("metrics for Prometheus: /metrics at")
    monkeypatch.setattr(surroundings, "installed", lambda name: "")
    lacking = (await found(own, "telemetry"))[1]
    assert (lacking.level, lacking.remedy) == ("warning", "pip install 'doubledecker[prometheus]'")


# --- the broker


@pytest.mark.parametrize(
    ("description", "levels"),
    [
        ("RabbitMQ 3.9.27", ["ok", "warning"]),
        ("RabbitMQ 3.10.8", ["ok"]),
        ("RabbitMQ 4.0.5", ["ok"]),
        ("RabbitMQ 4.3.0", ["ok", "warning"]),
        ("RabbitMQ 4.3.5", ["ok", "warning"]),
        ("RabbitMQ 4.3.6", ["ok"]),
    ],
)
def test_releases_that_are_too_old_or_stop_queues_are_a_warning(
    description: str, levels: list[str]
) -> None:
    assert [finding.level for finding in broker.of_version(description)] == levels


def test_a_node_that_is_away_is_an_error_and_fewer_than_three_a_warning() -> None:
    nodes = [{"name": f"rabbit@{name}", "running": True} for name in "abc"]
    away = {"name": "rabbit@c", "running": False}
    told = [*broker.of_cluster(nodes), *broker.of_cluster(nodes[:1])]
    told += broker.of_cluster([*nodes[:2], away])
    assert [finding.level for finding in told] == ["ok", "warning", "error"]
    assert told[-1].what == "1 of 3 nodes do not run: rabbit@c"


# --- the command


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"examined_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SERVICE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUS_AMQP_URL", "memory://")
    monkeypatch.setenv("BUS_MONGO_URL", "memory://")
    return f"{name}:build"


def finds(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    """Has one part find these, and the others nothing."""

    async def examine(patient: Patient) -> list[Finding]:
        return [*findings]

    monkeypatch.setattr(doctor, "PARTS", {"broker": examine})


MILD = fine("it runs")._replace(level="warning", remedy="look")


@pytest.mark.parametrize(
    ("findings", "words", "status"),
    [
        ([], "", 0),
        ([fine("it runs")], "--strict", 0),
        ([fine("it runs"), MILD], "", 0),
        ([fine("it runs"), MILD], "--strict", 1),
        ([MILD, fault("it is away", "start it")], "", 1),
        ([], "--only brocker", 2),
    ],
)
def test_the_exit_status_is_1_for_an_error_and_for_a_warning_where_that_is_asked(
    findings: list[Finding],
    words: str,
    status: int,
    service: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finds(monkeypatch, *findings)
    result = CliRunner().invoke(app, ["doctor", service, *words.split()])
    assert result.exit_code == status
    assert ("there is no part 'brocker'" in result.stderr) == (status == 2)


def test_people_read_it_by_part_with_the_remedy_beneath(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, fine("RabbitMQ 3.10.8"), MILD, fault("it is away\x1b[2J", "start it", "G2"))
    shown = CliRunner().invoke(app, ["doctor", service])
    assert shown.stdout == (
        "broker\n"
        "    RabbitMQ 3.10.8\n"
        "  ! it runs\n"
        "      look\n"
        "  x it is away\\x1b[2J (G2 does not hold in full)\n"
        "      start it\n"
        "Doctor: errors: 1, warnings: 1.\n"
    )
    assert shown.stderr == ""


def test_programs_read_json_with_the_worst_level_first(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, fine("it runs"), fault("it is away", "start it", "G2"))
    shown = CliRunner().invoke(app, ["doctor", service, "--json"])
    assert json.loads(shown.stdout) == {
        "status": "error",
        "findings": [
            {"part": "broker", "level": "ok", "what": "it runs", "remedy": "", "promise": ""},
            {
                "part": "broker",
                "level": "error",
                "what": "it is away",
                "remedy": "start it",
                "promise": "G2",
            },
        ],
    }


def test_each_part_has_its_row_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    section = page[page.index("### bus doctor") :].partition("\n### When")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [*PARTS]
