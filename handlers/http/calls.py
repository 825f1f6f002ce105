"""Calls: turns a request's headers into the options of a call to the bus."""

import asyncio
import hashlib
import re
import uuid
from typing import Annotated, TypeVar

from fastapi import Header, Request, Response
from pydantic import BaseModel

from bus import Bus, Command, Health, Query, Receipt, StoreUnavailable
from bus.observe.log import Logger
from handlers.http.live import EventStream

log = Logger("jobboard.http")

Answer = TypeVar("Answer")
Model = TypeVar("Model", bound=BaseModel)

RECEIPT = "Bus-Receipt"
CORRELATION = "X-Correlation-ID"
WAIT = 5.0
LONGEST_WAIT = 30.0
"""Seconds for which a call waits until what its receipt wrote can be read: default, and maximum."""
FIRST_WITHIN = 5.0
"""Seconds for which a live answer waits for its first, in addition to the wait for its receipt."""


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
        self._state = request.app.state
        self._bus: Bus = self._state.bus
        self._closing: asyncio.Event = self._state.closing
        self._response = response
        self._after = after
        self._wait = wait
        self._id = id
        self._correlation_id = correlation_id

    async def execute(self, command: Command) -> Receipt:
        """Executes a command; puts its receipt into the response's headers, too."""
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
        """Returns the answers as a stream; awaits the first, so that errors have a status."""
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
        """Returns the health; logs its problems if other parts have them than last time."""
        health = await self._bus.health()
        parts = {problem.part for problem in health.problems}
        if parts != self._state.logged:
            self._state.logged = parts
            log.warning(
                "health", ready=health.ready, problems=[str(one) for one in health.problems]
            )
        return health

    @property
    def broker(self) -> str:
        return self._bus.broker

    def new_id(self) -> str:
        """Returns an id for something new; a repeat, which has the same key, gets the same one."""
        if self._id is None:
            return uuid.uuid4().hex
        return hashlib.blake2s(f"new>{self._id}".encode(), digest_size=16).hexdigest()

    def created(self, path: str) -> None:
        """Says in the response where the new thing is found."""
        self._response.headers["Location"] = path


async def calls_of(
    request: Request,
    response: Response,
    bus_receipt: Annotated[str | None, Header(max_length=4000)] = None,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9_.:~-]{1,200}$")] = None,
    x_forwarded_user: Annotated[str | None, Header(max_length=200)] = None,
    x_correlation_id: Annotated[str | None, Header(pattern=r"^[!-~]{1,200}$")] = None,
    prefer: Annotated[str, Header(max_length=200)] = "",
) -> Calls:
    """Returns the calls that a request's headers ask for.

    `Bus-Receipt` is what an earlier write answered, whose changes this call then includes.
    `Prefer: wait=2` (RFC 7240) says how many seconds that may take. `Idempotency-Key` becomes the
    command's id, so that a repeat does nothing twice and gets the first answer; it counts per user,
    whom the proxy that signs users in names in `X-Forwarded-User`. `X-Correlation-ID` is passed on
    to everything that follows from the request.
    """
    if x_correlation_id:
        response.headers[CORRELATION] = x_correlation_id
    return Calls(
        request,
        response,
        after=None if bus_receipt is None else Receipt.from_token(bus_receipt),
        wait=_wait(prefer),
        id=idempotency_key and command_id(idempotency_key, x_forwarded_user),
        correlation_id=x_correlation_id,
    )


def command_id(key: str, user: str | None) -> str:
    """Returns the id of a command that a user sends with a key; no other user's key gives it."""
    if user is None:
        return key
    hashed = hashlib.blake2s(f"{user}\0{key}".encode(), digest_size=16)
    return f"@{hashed.hexdigest()}"  # no key can contain this character


def _wait(prefer: str) -> float:
    """Returns the seconds to wait; ignores preferences it does not understand, as RFC 7240 asks."""
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,9})\b", prefer)
    return min(float(found[1]), LONGEST_WAIT) if found else WAIT
