"""Calls: a request's headers, turned into what the bus is told beside the message."""

import asyncio
import re
from typing import Annotated, TypeVar

from fastapi import Header, Request, Response
from pydantic import BaseModel

from bus import Bus, Command, Health, Query, Receipt, StoreUnavailable
from handlers.http.live import EventStream

Answer = TypeVar("Answer")
Model = TypeVar("Model", bound=BaseModel)

RECEIPT = "Bus-Receipt"
CORRELATION = "X-Correlation-ID"
WAIT = 5.0
LONGEST_WAIT = 30.0
"""Seconds that a call waits for what its receipt tells of: by default, and at most."""
FIRST_WITHIN = 5.0
"""Seconds until a live answer's first is there, beyond what its receipt may take."""


class Calls:
    """The bus, as one request uses it."""

    def __init__(
        self,
        request: Request,
        response: Response,
        *,
        after: Receipt | None,
        wait: float,
        id: str | None,
        correlation_id: str | None,
    ) -> None:
        self._bus: Bus = request.app.state.bus
        self._closing: asyncio.Event = request.app.state.closing
        self._response = response
        self._after = after
        self._wait = wait
        self._id = id
        self._correlation_id = correlation_id

    async def execute(self, command: Command) -> Receipt:
        """Carries a command out; its receipt also goes into the response's headers."""
        receipt = await self._bus.execute(
            command,
            id=self._id,
            after=self._after,
            timeout=self._wait,
            correlation_id=self._correlation_id,
        )
        self._response.headers[RECEIPT] = receipt.token
        return receipt

    async def query(self, query: Query[Answer]) -> Answer:
        return await self._bus.query(query, after=self._after, timeout=self._wait)

    async def watch(self, query: Query[Model], seen: str | None) -> EventStream:
        """The answers as a stream; the first is there, so that what keeps it away is an error."""
        answers = self._bus.watch(query, after=self._after, timeout=self._wait)
        try:
            async with asyncio.timeout(FIRST_WITHIN + self._wait):
                first = await anext(answers)
        except (TimeoutError, StopAsyncIteration):
            await answers.aclose()
            raise StoreUnavailable("there is no answer yet; try again") from None
        return EventStream(
            first,
            answers,
            seen=seen,
            closing=self._closing,
        )

    async def alive(self) -> bool:
        return await self._bus.alive()

    async def health(self) -> Health:
        return await self._bus.health()

    @property
    def broker(self) -> dict[str, str | bool]:
        transport = self._bus.parts.transport
        return {"is": transport.description, "healthy": transport.healthy}

    def created(self, path: str) -> None:
        """Says where the new thing is to be found."""
        self._response.headers["Location"] = path


async def calls_of(
    request: Request,
    response: Response,
    bus_receipt: Annotated[str | None, Header(max_length=4000)] = None,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9_.:~-]{1,200}$")] = None,
    x_correlation_id: Annotated[str | None, Header(pattern=r"^[!-~]{1,200}$")] = None,
    prefer: Annotated[str, Header(max_length=200)] = "",
) -> Calls:
    """What a request's headers ask for.

    `Bus-Receipt` is what an earlier write answered: this call then includes what that one changed.
    `Prefer: wait=2` (RFC 7240) says how many seconds that may take.
    `Idempotency-Key` becomes the command's id, so that a repeat does nothing twice and gets the
    first answer. `X-Correlation-ID` goes with all that follows from the request.
    """
    if x_correlation_id:
        response.headers[CORRELATION] = x_correlation_id
    return Calls(
        request,
        response,
        after=None if bus_receipt is None else Receipt.from_token(bus_receipt),
        wait=_wait(prefer),
        id=idempotency_key,
        correlation_id=x_correlation_id,
    )


def _wait(prefer: str) -> float:
    """Preferences that are not understood are ignored, as the standard has it."""
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,9})\b", prefer)
    return min(float(found[1]), LONGEST_WAIT) if found else WAIT
