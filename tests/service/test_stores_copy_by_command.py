"""`bus stores copy`, as the page tells to use it."""

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from typer.testing import CliRunner, Result

from bus import Settings, StoreUnavailable, Worker
from bus.cli.main import app
from bus.continuity import continuity
from tests.service.following_contract import GetPurse, Pay
from tests.service.moving import Bell, bank

PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
TARGET = "tests.service.moving_service:build"


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch, environment: Settings, unique: str) -> str:
    monkeypatch.setattr(continuity, "LOOK_EVERY", 0.2)
    monkeypatch.setenv("MOVING_SERVICE", f"{unique}_bank")
    return f"{unique}_bank"


def steps() -> list[str]:
    """The lines of the section, each by itself, without those that set a variable."""
    _, _, section = PAGE.read_text().partition("## Moving a log")
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("bus ")]


async def run(line: str, *more: str) -> Result:
    words = shlex.split(line.replace("bank.app:build", TARGET))[1:]
    return await asyncio.to_thread(CliRunner().invoke, app, [*words, *more])


async def done(line: str, *more: str) -> Any:
    result = await run(line, *more, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_the_steps_of_the_page_move_a_log_and_move_it_back(
    real_settings: Settings,
    service: str,
    postgresql_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy, finish, check, abandon, back = steps()
    monkeypatch.setenv("NEW_LOG_URL", postgresql_url)
    here, there = real_settings, real_settings.model_copy(update={"log_url": postgresql_url})
    receipts = [await paid(here, service, 1)]
    assert (await done(copy))["state"] == "following"
    with pytest.raises(StoreUnavailable, match="is being copied to"):
        await paid(there, service, 9)
    assert await asked(finish, "n") == 1
    moved = await done(finish, "--yes")
    assert moved["state"] == "moved"
    assert moved["compared"] > 0
    with pytest.raises(StoreUnavailable, match=r"with BUS_LOG_URL set to that of postgresql"):
        await paid(here, service, 9)
    assert (await done(abandon))["state"] == "stays"
    receipts.append(await paid(here, service, 2))
    assert (await done(finish, "--yes"))["copied"] > 0
    monkeypatch.setenv("BUS_LOG_URL", postgresql_url)
    assert (await done(check))["problems"] == []
    receipts.append(await paid(there, service, 3))
    refused = await run(abandon)
    assert (refused.exit_code, "has taken commits since" in refused.stderr) == (2, True)
    assert (await done(back, "--yes"))["copied"] > 0
    receipts.append(await paid(here, service, 4))
    assert [await paid(here, service, n) for n in (1, 2, 3, 4)] == receipts


async def asked(line: str, answer: str) -> int:
    words = shlex.split(line.replace("bank.app:build", TARGET))[1:]
    result = await asyncio.to_thread(CliRunner().invoke, app, words, f"{answer}\n")
    assert "takes no commands" in result.stderr
    return result.exit_code


async def paid(settings: Settings, service: str, amount: int) -> Any:
    """What a process with these settings is told."""
    async with bank(settings, service, Bell()) as bus, Worker(bus):
        payment = Pay(purse_id="a", amount=amount)
        receipt = await bus.execute(payment, id=f"payment-{amount}")
        view = await bus.query(GetPurse(purse_id="a"), after=receipt)
        assert view is not None
        assert view.amounts[:amount] == [*range(1, amount + 1)]
        return receipt


async def test_the_collections_of_a_log_that_went_elsewhere_may_be_dropped(
    real_settings: Settings, service: str, postgresql_url: str, mongo_url: str
) -> None:
    there = real_settings.model_copy(update={"log_url": postgresql_url})
    await paid(real_settings, service, 1)
    line = f"bus stores copy {TARGET} mongodb {postgresql_url} --finish"
    await done(line, "--yes")
    await paid(there, service, 2)
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        for name in ("commits", "snapshots", "handled"):
            await client[real_settings.mongo_db].drop_collection(name)
    await paid(there, service, 3)
    async with bank(there, service, Bell()) as bus:
        await asyncio.sleep(1)
        assert await bus.runtime.continuity.problem() is None


async def test_what_is_printed_tells_what_to_do_and_no_password(
    real_settings: Settings, service: str, postgresql_url: str
) -> None:
    await paid(real_settings, service, 1)
    secret = (
        postgresql_url.replace("://", "://postgres:secret@")
        if "@" not in postgresql_url
        else (re.sub(r"://[^@]*@", "://postgres:secret@", postgresql_url))
    )
    line = f"bus stores copy {TARGET} mongodb {secret}"
    followed = await run(line)
    assert "commits copied; the copy at postgresql+asyncpg://" in followed.stdout
    moved = await run(line, "--finish", "--yes")
    assert "start all processes with BUS_LOG_URL for postgresql+asyncpg://" in moved.stdout
    again = await run(line)
    assert "start all processes with BUS_LOG_URL for postgresql+asyncpg://" in again.stdout
    assert "secret" not in f"{followed.output}{moved.output}{again.output}"
    both = await run(line, "--finish", "--abandon")
    assert both.exit_code == 2


async def test_a_place_that_is_away_ends_with_1_and_says_how_to_go_on(
    real_settings: Settings, service: str
) -> None:
    line = f"bus stores copy {TARGET} mongodb postgresql+asyncpg://postgres@127.0.0.1:1/none"
    result = await run(line)
    assert result.exit_code == 1
    assert "run it again, and it goes on from there" in result.stderr
