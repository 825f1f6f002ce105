"""Live answers as server-sent events, on a real server in this process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from bus import Bus, Settings, Worker
from handlers.app import build
from handlers.http import create_app, live
from handlers.http.server import Server
from tests.leaks import nothing_left
from tests.waiting import patience, until
from tools.services.ports import LOOPBACK, free_ports

JOBS, LIVE = "/api/v1/jobs", "/api/v1/jobs/live"
POSTING = {"title": "Signaller", "description": "Night shifts on the northern line."}


class Running(NamedTuple):
    server: Server
    serving: "asyncio.Task[None]"
    bus: Bus
    client: httpx.AsyncClient

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.serving

    def watchers(self) -> int:
        return sum(len(bell.watchers) for bell in self.bus.runtime.live._bells.values())


@asynccontextmanager
async def serving(settings: Settings, name: str, *, works: bool = True) -> AsyncIterator[Running]:
    (port,) = free_ports(1)
    bus = build(settings, name)
    app = create_app(bus, worker=Worker(bus) if works else None)
    server = Server(app, LOOPBACK, port)
    task = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as client:
        running = Running(server, task, bus, client)
        await until(lambda: server.started, "the server has started")
        try:
            yield running
        finally:
            await running.stop()


@pytest.fixture
async def running(settings: Settings, unique: str) -> AsyncIterator[Running]:
    async with nothing_left(), serving(settings, unique) as running:
        yield running


class Stream:
    """The events of one response, read as they come."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"].startswith("text/event-stream")
        self.response = response
        self._lines = response.aiter_lines()

    async def block(self, within: float = 30) -> dict[str, str]:
        """The next event, or comment (under the name "")."""
        found: dict[str, str] = {}
        async with asyncio.timeout(within * patience()):
            async for line in self._lines:
                if not line:
                    return found
                name, _, value = line.partition(":")
                found[name] = value.strip()
        raise EOFError

    async def event(self, within: float = 30) -> dict[str, str]:
        while "data" not in (block := await self.block(within)):
            pass
        return block


@asynccontextmanager
async def stream(running: Running, **headers: str) -> AsyncIterator[Stream]:
    async with running.client.stream("GET", LIVE, headers=headers) as response:
        yield Stream(response)


def titles(event: dict[str, str]) -> list[str]:
    page: dict[str, Any] = json.loads(event["data"])
    return [job["title"] for job in page["items"]]


async def post(running: Running, title: str) -> str:
    answer = await running.client.post(JOBS, json={**POSTING, "title": title})
    receipt: str = answer.headers["Bus-Receipt"]
    return receipt


async def test_each_answer_is_an_event(running: Running) -> None:
    async with stream(running) as events:
        assert await events.block() == {"retry": "1000"}
        assert titles(await events.event()) == []
        await post(running, "Cook")
        assert titles(await events.event()) == ["Cook"]
        await post(running, "Baker")
        assert titles(await events.event()) == ["Baker", "Cook"]


async def test_who_has_seen_the_answer_is_told_nothing_until_it_changes(running: Running) -> None:
    async with stream(running) as events:
        seen = (await events.event())["id"]
    async with stream(running, **{"Last-Event-ID": seen}) as events:
        await events.block()
        with pytest.raises(TimeoutError):
            await events.block(within=0.5)
    await post(running, "Cook")
    async with stream(running, **{"Last-Event-ID": seen}) as events:
        new = await events.event()
        assert titles(new) == ["Cook"]
        assert new["id"] != seen


async def test_a_receipt_is_included_in_the_first_event(running: Running) -> None:
    for number in range(1, 4):
        receipt = await post(running, f"Job {number}")
        async with stream(running, **{"Bus-Receipt": receipt}) as events:
            assert len(titles(await events.event())) == number


async def test_a_receipt_that_is_not_reached_in_time_is_a_problem(
    settings: Settings, unique: str
) -> None:
    async with serving(settings, unique, works=False) as running:
        receipt = await post(running, "Cook")
        started = time.monotonic()
        headers = {"Bus-Receipt": receipt, "Prefer": "wait=1"}
        for path in (LIVE, JOBS):
            answer = await running.client.get(path, headers=headers)
            assert answer.status_code == 503
            assert answer.json()["type"] == "/docs#not-caught-up"
        assert 2 <= time.monotonic() - started < 8 * patience()


async def test_silence_is_broken_by_comments(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.1)
    async with stream(running) as events:
        await events.event()
        for _ in range(3):
            assert await events.block() == {"": "still here"}
        await post(running, "Cook")
        assert titles(await events.event()) == ["Cook"]


async def test_a_watcher_goes_with_its_client(running: Running) -> None:
    async with stream(running) as events:
        await events.event()
        assert running.watchers() == 1
    await until(lambda: running.watchers() == 0, "the watcher is gone")


async def test_a_server_that_stops_ends_its_streams(running: Running) -> None:
    async with stream(running) as events:
        await events.event()
        started = time.monotonic()
        stopping = asyncio.create_task(running.stop())
        with pytest.raises(EOFError):
            await events.event()
        await stopping
        assert time.monotonic() - started < 5 * patience()


async def test_a_malformed_question_is_a_problem_and_no_stream(running: Running) -> None:
    answer = await running.client.get(LIVE, params={"limit": "1000"})
    assert answer.status_code == 422
    answer = await running.client.get(LIVE, headers={"Bus-Receipt": "what?"})
    assert answer.status_code == 400


async def test_the_description_tells_of_it(running: Running) -> None:
    described = (await running.client.get("/openapi.json")).json()["paths"][LIVE]["get"]
    assert "text/event-stream" in described["responses"]["200"]["content"]
    names = {one["name"].lower() for one in described["parameters"]}
    assert {"text", "skip", "limit", "last-event-id", "bus-receipt", "prefer"} <= names
    assert "text/event-stream" in (await running.client.get("/docs")).text
