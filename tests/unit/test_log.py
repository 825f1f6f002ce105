import json
from collections.abc import Iterator
from typing import get_args

import pytest
import structlog
from pydantic import BaseModel, ValidationError

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
