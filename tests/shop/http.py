"""Orders over HTTP: `python -m tests.shop.http --port 8000`."""

import argparse
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from bus import AggregateNotFound, Bus, Settings, log
from tests.shop.orders import CancelOrder, GetOrder, OrderView, PlaceOrder, build


class Body(BaseModel):
    article: str
    amount: int
    card: str = "gold"


class Placed(BaseModel):
    order_id: str


def create_app(bus: Bus) -> FastAPI:
    """Returns the application, which opens and closes the bus with itself."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with bus:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders", status_code=201)
    async def place(body: Body) -> Placed:
        order_id = uuid.uuid4().hex
        await bus.execute(PlaceOrder(order_id=order_id, **body.model_dump()))
        return Placed(order_id=order_id)

    @app.get("/orders/{order_id}")
    async def get(order_id: str) -> OrderView:
        if found := await bus.query(GetOrder(order_id=order_id)):
            return found
        raise HTTPException(404)

    @app.delete("/orders/{order_id}", status_code=204)
    async def cancel(order_id: str) -> None:
        try:
            await bus.execute(CancelOrder(order_id=order_id))
        except AggregateNotFound:
            raise HTTPException(404) from None

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="Orders over HTTP.")
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    log.configure()
    app = create_app(build(Settings()))
    uvicorn.run(app, port=chosen.port, access_log=False, log_config=None)


if __name__ == "__main__":
    main()
