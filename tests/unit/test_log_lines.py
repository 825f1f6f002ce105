"""One happening is one line, and what is no failure is not told as one."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from bus import Reject, Settings, Worker
from bus.messages import Envelope
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import until

Lines = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _every_level() -> Iterator[None]:
    """Another test of this process may have left structlog set up for warnings alone."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


def told(lines: Lines) -> list[tuple[str, str]]:
    """What is told at the level of info and above, of handling."""
    return [
        (line["log_level"], line["event"])
        for line in lines
        if line["log_level"] != "debug" and not line["event"].startswith("worker ")
    ]


@pytest.mark.parametrize(
    ("mood", "expected"),
    [
        ("", []),
        ("later", []),
        ("fails once", [("info", "a try failed; another one follows")]),
        ("outage", [("warning", "holding on"), ("info", "going on")]),
        ("rejects", [("error", "dead letter")]),
    ],
)
async def test_what_becomes_of_a_message_is_one_line(
    mood: str, expected: list[tuple[str, str]], unique: str
) -> None:
    diary = Diary()
    with capture_logs() as lines:
        async with build(Settings.in_memory(), diary, unique) as bus, Worker(bus):
            await bus.execute(Pay(wallet_id="a", amount=1, mood=mood))
            letters = bus.parts.read_store.dead_letters
            await until(letters if mood == "rejects" else lambda: diary.seen, "it is done with")
    assert told(lines) == expected


async def test_a_command_that_fails_where_it_is_executed_is_one_line(unique: str) -> None:
    async def refuse(_envelope: Envelope, _following: Any) -> Any:
        raise Reject("not today")

    settings = Settings.in_memory()
    with capture_logs() as lines:
        async with build(settings, Diary(), unique, middleware=[refuse]) as bus:
            with pytest.raises(Reject):
                await bus.execute(Pay(wallet_id="a", amount=1))
            with pytest.raises(Reject):
                await bus.query(GetWallet(wallet_id="a"))
    assert told(lines) == [("info", "message failed")] * 2
