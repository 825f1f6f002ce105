"""`bus deadletters`, from the listing to the repair."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bus import DeadLetters, Settings, Worker
from bus.cli.main import app
from tests.service.parcels import Office, Post, build, signed, stray
from tests.waiting import until

TARGET = "tests.service.parcels_service:build"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, environment: Settings, unique: str) -> str:
    monkeypatch.setenv("PARCELS_SERVICE", unique)
    return unique


async def run(command: str, *arguments: str, answer: str = "") -> Result:
    words = ["deadletters", command, TARGET, *arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, words, answer)


async def as_json(command: str, *arguments: str) -> Any:
    result = await run(command, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_what_was_given_up_is_listed_edited_retried_and_discarded(
    service: str, real_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office()
    async with build(real_settings, office, service) as bus:
        letters = DeadLetters(bus)

        async def five() -> bool:
            return sum(one.count for one in await letters.groups()) == 5

        async with Worker(bus):
            await bus.runtime.transport.publish(
                [signed(bus, stray(b'{"weight":"many"}', "parcel-poison"))]
            )
            await bus.execute(Post(parcel_id="stuck", weight=1, note="unprojectable"))
            await bus.execute(Post(parcel_id="bare", weight=1, note="unlabelled"))
            await until(five, "four dead letters and a parked stream")

        groups = {(one["queue"], one["error"]): one for one in await as_json("groups")}
        poison = groups[f"{service}.labels", "InvalidMessage"]
        assert (poison["kind"], poison["count"], poison["message"]) == ("message", 1, "Posted")
        table = (await run("groups")).stdout.splitlines()
        assert table[0].split()[:3] == ["GROUP", "KIND", "COUNT"]
        assert len(table) == 6
        assert len((await run("list", "--limit", "2")).stdout.splitlines()) == 3

        (listed,) = await as_json("list", "--group", poison["group"])
        assert "data" not in listed
        shown = await as_json("show", listed["id"])
        assert shown["data"] == {"weight": "many"}
        assert '"weight": "many"' in (await run("show", listed["id"])).stdout

        wrong = await run("edit", listed["id"], "--data", '{"weight": "few"}')
        assert (wrong.exit_code, wrong.stdout) == (1, "")
        assert "weight: Input should be a valid integer" in wrong.stderr
        assert (await run("edit", listed["id"], "--data", "[1]")).exit_code == 2
        (tmp_path / "new.json").write_text('{"weight": 3}')
        done = await run("edit", listed["id"], "--file", str(tmp_path / "new.json"))
        assert done.exit_code == 0, done.output
        monkeypatch.setenv("EDITOR", "sed -i s/3/4/")
        assert (await run("edit", listed["id"])).exit_code == 0
        assert (await as_json("show", listed["id"]))["data"] == {"weight": 4}
        assert (await run("edit", listed["id"])).exit_code == 1

        assert (await run("retry")).exit_code == 2
        assert (await run("retry", "--group", "none")).exit_code == 1
        office.mended = True
        retried = await as_json("retry", listed["id"], "--rate", "50")
        assert retried == {"retried": [listed["id"]], "failed": {}}
        stuck = groups[f"{service}.parcels", "ValueError"]["group"]
        assert (await run("retry", "--group", stuck)).stdout == "retried: 1\n"

        async def three() -> bool:
            return sum(one.count for one in await letters.groups()) == 3

        async with Worker(bus):
            await until(three, "the letter of labels and the parked stream are repaired")
        assert sorted(office.labelled) == ["parcel-poison", "parcel-stuck"]

        assert (await run("discard", "--all", answer="n\n")).exit_code == 1
        assert len(await as_json("list")) == 3
        assert (await run("discard", "--all", "--yes")).stdout == "discarded: 3\n"
        assert await as_json("groups") == []
        assert (await run("show", listed["id"])).exit_code == 1
