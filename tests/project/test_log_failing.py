"""A log that fails, or that nobody reads, stops no work."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from bus import Settings, Worker
from bus.observe.log import Logger
from tests.service.wallet import Diary, Pay, build
from tests.waiting import until

ROOT = Path(__file__).parents[2]

log = Logger("bus.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def needs_event(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> dict[str, Any]:
    return {"text": line["event"], "length": len(line["msg"])}


def refuses(_logger: Any, _method: str, _line: MutableMapping[str, Any]) -> dict[str, Any]:
    raise RuntimeError("no more lines")


def drops(_logger: Any, _method: str, _line: MutableMapping[str, Any]) -> dict[str, Any]:
    raise structlog.DropEvent


class FullDevice:
    def msg(self, _line: str) -> None:
        raise OSError(28, "No space left on device")

    info = warning = error = msg


@pytest.mark.parametrize(
    ("configuration", "failure"),
    [
        ({"processors": [needs_event]}, "KeyError: 'msg'"),
        ({"processors": [refuses]}, "RuntimeError: no more lines"),
        (
            {"logger_factory": lambda *_: FullDevice()},
            "OSError: [Errno 28] No space left on device",
        ),
        (
            {
                "processors": [structlog.stdlib.render_to_log_kwargs],
                "logger_factory": structlog.stdlib.LoggerFactory(),
                "wrapper_class": structlog.stdlib.BoundLogger,
            },
            "KeyError: \"Attempt to overwrite 'message' in LogRecord\"",
        ),
    ],
)
def test_a_line_that_the_programs_processors_fail_at_is_told_without_them(
    configuration: dict[str, Any], failure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.configure(**configuration)
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed\nFAKE", message="Paid")
    (told,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (told["event"], told["message"]) == ("failed\\x0aFAKE", "Paid")
    assert told["log_failed"] == failure
    assert "ValueError: broken" in told["exception"]


def test_a_program_may_drop_lines(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.configure(processors=[drops])
    log.warning("not wanted")
    assert capsys.readouterr().err == ""


def test_a_lines_place_is_that_of_whoever_tells_it() -> None:
    seen: list[dict[str, Any]] = []

    def keep(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> dict[str, Any]:
        seen.append(dict(line))
        raise structlog.DropEvent

    adder = structlog.processors.CallsiteParameterAdder()
    structlog.configure(processors=[adder, keep])
    log.warning("here")
    assert seen[0]["func_name"] == "test_a_lines_place_is_that_of_whoever_tells_it"
    assert seen[0]["filename"] == "test_log_failing.py"


async def test_a_worker_works_though_every_line_of_its_log_fails(unique: str) -> None:
    structlog.configure(processors=[refuses], logger_factory=lambda *_: FullDevice())
    diary = Diary()
    async with build(Settings.in_memory(), diary, unique) as bus, Worker(bus):
        await bus.execute(Pay(wallet_id="a", amount=1, mood="always fails"))
        await bus.execute(Pay(wallet_id="b", amount=1, mood="outage"))
        await bus.execute(Pay(wallet_id="c", amount=1, mood="unprojectable"))
        await until(bus.runtime.control.dead_letters, "the dead letter")
        await until(lambda: len(diary.seen) == 2, "the others are handled")
        assert not [p for p in (await bus.health()).problems if p.part.startswith("loop ")]


# -- a program of its own, and what becomes of its standard error


def program(text: str, **streams: Any) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", text], env=environment, **streams)


LIBRARIES = """
import asyncio, logging, warnings
from bus import log

async def lost():
    raise RuntimeError("nobody\\nlistens")

async def main():
    task = asyncio.create_task(lost())
    await asyncio.sleep(0)
    del task

log.configure(json=True)
asyncio.run(main())
logging.getLogger("aiormq.connection").info("not told")
logging.getLogger("pymongo.topology").warning("a server is %s", "away")
warnings.warn("old")
log.Logger("bus").info("ours")
import structlog
structlog.configure(
    processors=[structlog.stdlib.render_to_log_kwargs],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
structlog.get_logger("theirs").warning("round and round")
"""


def test_what_libraries_tell_is_a_line_of_json_like_all_others() -> None:
    ran = program(LIBRARIES, stderr=subprocess.PIPE)
    _, printed = ran.communicate(timeout=60)
    *lines, last = printed.decode().splitlines()
    told = [json.loads(line) for line in lines]
    assert [(line.get("logger"), line["level"]) for line in told] == [
        ("asyncio", "error"),
        ("pymongo.topology", "warning"),
        ("py.warnings", "warning"),
        (None, "info"),
    ]
    assert "RuntimeError: nobody\\x0alistens" in told[0]["exception"]
    assert told[1]["event"] == "a server is away"
    assert last == "round and round"
    assert ran.returncode == 0


CHATTY = """
import os, sys, time
from bus import log
log.configure(json=True)
began = time.monotonic()
for number in range(20_000):
    log.Logger("bus").info("a line of the log", number=number, filling="x" * 300)
print(time.monotonic() - began < 30, flush=True)
"""


@pytest.mark.parametrize("fate", ["nobody reads", "closed", "full"])
def test_standard_error_that_takes_nothing_keeps_nobody_waiting(fate: str) -> None:
    reads, writes = os.pipe()
    place = os.open("/dev/full", os.O_WRONLY) if fate == "full" else os.dup(writes)
    try:
        if fate == "closed":
            os.close(reads)
            reads = -1
        ran = program(CHATTY, stderr=place, stdout=subprocess.PIPE)
        printed, _ = ran.communicate(timeout=100)
        assert printed == b"True\n"
        assert ran.returncode == 0
    finally:
        for number in (place, writes, *([reads] if reads >= 0 else [])):
            os.close(number)


RESUMED = (
    CHATTY
    + """
sys.stdin.readline()
while log.LINES._size:
    time.sleep(0.01)
log.Logger("bus").info("read again")
"""
)


def test_lines_that_were_dropped_are_counted_and_told_once_somebody_reads() -> None:
    ran = program(RESUMED, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert ran.stdout is not None
    assert ran.stdout.readline() == b"True\n"
    _, printed = ran.communicate(b"\n", timeout=100)
    told = [json.loads(line) for line in printed.splitlines()]
    numbers = [line["number"] for line in told if "number" in line]
    assert numbers == sorted(numbers)
    dropped = sum(line["count"] for line in told if "dropped" in line["event"])
    assert 0 < dropped == 20_000 - len(numbers)
    assert "read again" in [line["event"] for line in told]


def test_a_logger_of_the_library_is_not_told_below_warnings() -> None:
    assert not logging.getLogger("aiormq").isEnabledFor(logging.INFO)
