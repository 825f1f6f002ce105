"""The API as a careful client calls it: every command has a key, and is repeated under it."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from bus import Receipt
from tools.demo.http import Connection, Response
from tools.demo.tally import Tally

PATIENCE = 30.0
PAUSE = 0.2
TAKEN = "taken"


class Answer(NamedTuple):
    """How a request ended: `taken`, or the name of a problem; the body; the receipt's token."""

    outcome: str
    body: Any
    receipt: str


class Client:
    """One person at the API; counts what they were answered."""

    def __init__(self, connection: Connection, tally: Tally, patience: float = PATIENCE) -> None:
        self._connection = connection
        self._tally = tally
        self._patience = patience

    async def command(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        may: tuple[str, ...] = (TAKEN,),
        after: str = "",
        key: str = "",
    ) -> Answer:
        """Sends a command; `may` are the outcomes that are right for it."""
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        if after:
            headers["Bus-Receipt"] = after
        answer = await self._ask(method, path, body=body, headers=headers)
        if answer.outcome not in may:
            self._tally.unexpected.append(f"{method} {path}: {answer.outcome}, not {may}")
        if answer.outcome == TAKEN:
            self._tally.accepted += 1
            self._tally.note(Receipt.from_token(answer.receipt).versions)
        else:
            self._tally.refused[answer.outcome] += 1
        return answer

    async def read(self, path: str, *, after: str = "", **parameters: Any) -> Answer:
        """Reads; with `after`, what that receipt tells of is included."""
        headers = {"Bus-Receipt": after} if after else {}
        answer = await self._ask("GET", path, parameters=parameters, headers=headers)
        if answer.outcome != TAKEN:
            self._tally.unexpected.append(f"GET {path}: {answer.outcome}")
        return answer

    async def _ask(self, method: str, path: str, **options: Any) -> Answer:
        """Asks until there is an answer other than "not now"."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                response = await self._connection.request(method, path, **options)
                if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    return _answer(response)
                reason = response.body.decode(errors="replace")
            except OSError as error:
                reason = str(error)
            if time.monotonic() > deadline:
                return Answer(f"nothing in {self._patience:g} s ({reason})", None, "")
            self._tally.tried_again += 1
            await asyncio.sleep(PAUSE)


def _answer(response: Response) -> Answer:
    if response.status < HTTPStatus.BAD_REQUEST:
        return Answer(TAKEN, response.json(), response.headers.get("bus-receipt", ""))
    if response.headers.get("content-type") != "application/problem+json":
        return Answer(f"{response.status} {response.body[:200]!r}", None, "")
    problem = response.json()
    return Answer(problem["type"].rpartition("#")[2], problem, "")
