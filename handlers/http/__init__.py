"""The service over HTTP: requests become commands and queries, errors become problem details."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from bus import Bus, Worker
from handlers.http.board import add_board
from handlers.http.metrics import add_metrics
from handlers.http.page import add_page
from handlers.http.problems import add_problems
from handlers.http.routes import routes


def create_app(bus: Bus, *, worker: Worker | None = None) -> FastAPI:
    """Returns the web application around a bus, which opens and closes the bus with itself.

    With `worker`, this process also runs the read deck.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(bus)
            if worker is not None:
                await stack.enter_async_context(worker)
            yield

    app = FastAPI(
        title="Job board",
        description="The reference service of Doubledecker.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.bus = bus
    app.state.closing = asyncio.Event()
    """Set when the server begins to stop, to end live answers."""
    app.state.logged = set()
    """The parts whose problems were logged when health was last asked."""
    app.include_router(routes)
    add_problems(app)
    add_page(app)
    add_board(app)
    add_metrics(app, bus)
    return app
