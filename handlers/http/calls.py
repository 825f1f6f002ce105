"""Calls: a request's headers, turned into what the bus is told beside the message."""

from typing import Annotated, TypeVar

from fastapi import Header, Request, Response

from bus import Bus, Command, Health, Query, Receipt

Answer = TypeVar("Answer")

RECEIPT = "Bus-Receipt"
CORRELATION = "X-Correlation-ID"


class Calls:
    """The bus, as one request uses it."""

    def __init__(
        self,
        bus: Bus,
        response: Response,
        *,
        after: Receipt | None,
        id: str | None,
        correlation_id: str | None,
    ) -> None:
        self._bus = bus
        self._response = response
        self._after = after
        self._id = id
        self._correlation_id = correlation_id

    async def execute(self, command: Command) -> Receipt:
        """Carries a command out; its receipt also goes into the response's headers."""
        receipt = await self._bus.execute(
            command, id=self._id, after=self._after, correlation_id=self._correlation_id
        )
        self._response.headers[RECEIPT] = receipt.token
        return receipt

    async def query(self, query: Query[Answer]) -> Answer:
        return await self._bus.query(query, after=self._after)

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
) -> Calls:
    """What a request's headers ask for.

    `Bus-Receipt` is what an earlier write answered: this call then includes what that one changed.
    `Idempotency-Key` becomes the command's id, so that a repeat does nothing twice and gets the
    first answer. `X-Correlation-ID` goes with all that follows from the request.
    """
    if x_correlation_id:
        response.headers[CORRELATION] = x_correlation_id
    return Calls(
        request.app.state.bus,
        response,
        after=None if bus_receipt is None else Receipt.from_token(bus_receipt),
        id=idempotency_key,
        correlation_id=x_correlation_id,
    )
