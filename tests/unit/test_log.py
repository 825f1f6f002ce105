import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging import config
from typing import Any, get_args

import pytest
import structlog
from pydantic import BaseModel, ValidationError
from uvicorn.config import LOGGING_CONFIG

from bus import Command, Envelope
from bus.common import clock
from bus.dispatch.measuring import Route
from bus.dispatch.middleware import logged
from bus.observe import log
from bus.observe.listeners import Signals
from bus.observe.signals import CommandHandled


class Open(Command):
    secret: str


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("level", get_args(log.LogLevel))
def test_a_level_of_the_settings_is_one_of_the_function(
    level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(json=True, level=level)
    structlog.get_logger().critical("shown")
    assert "shown" in capsys.readouterr().err


async def test_each_line_names_the_message_and_none_holds_its_payload(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure(json=True)
    envelope = Envelope(Open(secret="4711"), "m1", clock.now(), "c1", "cause")

    async def handler(_: Envelope) -> None:
        structlog.get_logger().info("working")
        raise RuntimeError("broken\nFAKE LINE")

    with pytest.raises(RuntimeError):
        await logged(handler, Signals(), Route(CommandHandled, "Open", "open"))(envelope)
    printed = capsys.readouterr().err
    first, second = map(json.loads, printed.splitlines())
    for line in (first, second):
        assert (line["message"], line["message_id"], line["correlation_id"]) == ("Open", "m1", "c1")
        assert (line["causation_id"], line["attempt"]) == ("cause", 1)
    assert second["reason"] == "broken\\x0aFAKE LINE"
    assert "4711" not in printed


def test_a_program_that_configured_nothing_gets_warnings_on_standard_error_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()
    log.configure_default()
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "loud" in printed.err
    assert "quiet" not in printed.err


@contextmanager
def own_root() -> Iterator[logging.Logger]:
    """The root of `logging` as a program begins with it: pytest gives it handlers for a test."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    logging.getLogger("aiokafka").setLevel(logging.NOTSET)  # that of the demo's tools is CRITICAL
    try:
        yield root
    finally:
        root.handlers = handlers
        logging.captureWarnings(capture=False)
        for name in ("uvicorn", *LOGGING_CONFIG["loggers"], "aiokafka"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.NOTSET)


def logged_by(name: str, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """What comes of a line of each level."""
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger(name).log(level, "said %s", "so")
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [json.loads(line) for line in printed.err.splitlines()]
    assert all((line["logger"], line["event"]) == (name, "said so") for line in lines)
    return [line["level"] for line in lines]


def write_plainly(*, access: bool = True) -> None:
    """Has libraries log as they do by themselves."""
    config.dictConfig(LOGGING_CONFIG)
    if not access:
        logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("aiokafka").addHandler(logging.StreamHandler())


@own_root()
def test_libraries_that_write_by_themselves_write_json_as_all_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_plainly()
    log.configure(json=True)
    for name in ("uvicorn.error", "uvicorn.access"):
        assert logged_by(name, capsys) == ["info", "warning", "error"]
    for name in ("aiokafka.conn", "aiormq.channel", "opentelemetry.sdk", "pymongo.client"):
        assert logged_by(name, capsys) == ["warning", "error"]


@own_root()
def test_a_server_says_where_it_listens_if_it_logs_as_all_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure(json=True)
    assert logged_by("uvicorn.error", capsys) == ["info", "warning", "error"]


@own_root()
def test_what_was_turned_off_stays_off(capsys: pytest.CaptureFixture[str]) -> None:
    write_plainly(access=False)
    log.configure(json=True)
    logging.getLogger("uvicorn.access").info("a request")
    assert capsys.readouterr().err == ""


@own_root()
def test_what_the_bus_says_once_a_library_says_for_debugging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for level, expected in (("INFO", []), ("DEBUG", ["debug"])):
        log.configure(json=True, level=level)
        for name, text in (
            ("aiormq.connection", "error when creating transport: %r"),
            ("aiokafka", 'Unable connect to "%r"'),
        ):
            logging.getLogger(name).error(text, OSError("away"))
            lines = map(json.loads, capsys.readouterr().err.splitlines())
            assert [line["level"] for line in lines] == expected
    assert logged_by("aiormq.connection", capsys) == ["warning", "error"]


def test_a_program_that_has_its_own_handlers_keeps_them() -> None:
    with own_root() as root:
        root.addHandler(handler := logging.NullHandler())
        write_plainly()
        log.configure(json=True)
        assert root.handlers == [handler]
        assert logging.getLogger("uvicorn").handlers


class Inner(BaseModel):
    amount: int


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_hostile_value_stays_within_its_line_and_models_quote_nothing(
    json_lines: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(json=json_lines)
    wrong = {"amount": "-".join(["secret", "4711"])}
    hostile = "x\n2026-01-01 [info] FAKE\x1b[31m\u2028"
    try:
        try:
            Inner.model_validate(wrong)
        except ValidationError as error:
            raise RuntimeError(hostile) from error
    except RuntimeError:
        structlog.get_logger().exception("failed", nested={"k": [hostile, {hostile: (hostile,)}]})
    try:
        Inner.model_validate(wrong)
    except ValidationError as error:
        structlog.get_logger().warning("refused", error=error, exc_info=True)
    printed = capsys.readouterr().err
    assert printed.count("FAKE") == 4
    assert not any(line.startswith("2026-01-01 [info] FAKE") for line in printed.split("\n"))
    assert "FAKE\x1b" not in printed
    assert "\u2028" not in printed
    assert "RuntimeError: x\\" in printed
    assert "after ValidationError" in printed
    assert "amount: Input should be a valid integer" in printed
    assert "secret-4711" not in printed
