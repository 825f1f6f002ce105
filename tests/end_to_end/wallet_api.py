"""The wallets over HTTP, each request a command: `python -m tests.end_to_end.wallet_api PORT`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from bus import Settings, log
from handlers.http.server import Server
from tests.end_to_end.wallet_service import build
from tests.service.wallet import Pay
from tools.services.ports import LOOPBACK


def create_app() -> FastAPI:
    bus = build(Settings())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with bus:
            yield

    app = FastAPI(lifespan=lifespan)
    app.state.closing = asyncio.Event()

    @app.post("/wallets/{wallet_id}/payments")
    async def pay(wallet_id: str, amount: int, mood: str = "") -> dict[str, int]:
        receipt = await bus.execute(Pay(wallet_id=wallet_id, amount=amount, mood=mood))
        return dict(receipt.versions)

    @app.get("/failure")
    async def fail() -> None:
        raise LookupError("what nobody expected")

    return app


if __name__ == "__main__":
    log.configure()
    Server(create_app(), LOOPBACK, int(sys.argv[1])).run()
