"""Live answers over HTTP: each is a server-sent event, whose id is the answer's digest.

A client that reconnects and names the digest it saw last, as browsers do by themselves, gets
nothing until the answer changes.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from fastapi import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

HEARTBEAT = 15.0
"""Seconds of silence after which a comment keeps the connection alive in proxies on the way."""
COME_BACK_AFTER = 1000
"""Milliseconds after which a client whose connection broke tries again."""

Answers = AsyncGenerator[BaseModel, None]


class EventStream(Response):
    """Sends the answers as long as the client stays, or until `closing` is set."""

    media_type = "text/event-stream"

    def __init__(
        self, first: BaseModel, answers: Answers, *, seen: str | None, closing: asyncio.Event
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._first = first
        self._answers = answers
        self._seen = seen
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ends when the answers end, the client leaves or the server stops, whichever is first."""
        async with aclosing(self._answers):
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            await _first_of(self._stream(send), _disconnected(receive), self._closing.wait())
        await send({"type": "http.response.body", "body": b""})

    async def _stream(self, send: Send) -> None:
        async def write(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        await write(f"retry: {COME_BACK_AFTER}\n\n")
        if digest(self._first) != self._seen:
            await write(event(self._first))
        coming = asyncio.ensure_future(anext(self._answers, None))
        try:
            while True:
                await asyncio.wait([coming], timeout=HEARTBEAT)
                if not coming.done():
                    await write(": still here\n\n")
                elif (answer := coming.result()) is None:
                    return
                else:
                    await write(event(answer))
                    coming = asyncio.ensure_future(anext(self._answers, None))
        finally:
            await _ended([coming])


def events_of(shape: str) -> dict[str, Any]:
    """Describes a stream of events for OpenAPI, whose data has one of the shapes it knows."""
    schema = {"$ref": f"#/components/schemas/{shape}"}
    return {"description": "Events", "content": {EventStream.media_type: {"schema": schema}}}


def digest(answer: BaseModel) -> str:
    """Returns a text that is the same only for equal answers."""
    return hashlib.blake2s(answer.model_dump_json().encode(), digest_size=16).hexdigest()


def event(answer: BaseModel) -> str:
    """Formats an answer as one event; its JSON has no line breaks."""
    return f"id: {digest(answer)}\ndata: {answer.model_dump_json()}\n\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_of(*work: Coroutine[Any, Any, object]) -> None:
    """Returns when the first has ended, and ends the others. Raises what the first raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _ended(tasks)
    for task in done:
        task.result()


async def _ended(tasks: "list[asyncio.Task[Any]] | list[asyncio.Future[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
