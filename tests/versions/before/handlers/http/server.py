"""The server: it tells streams that are open to end before it waits for them."""

import socket

import uvicorn
from fastapi import FastAPI

STOP_WITHIN = 10
"""Seconds; requests that take longer are cut off."""


class Server(uvicorn.Server):
    """Serves the app until SIGTERM or SIGINT, and ten seconds more at most."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                access_log=False,
                timeout_graceful_shutdown=STOP_WITHIN,
            )
        )
        self._closing = app.state.closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """A stream ends when it is told to; else the server would wait for its clients to go."""
        self._closing.set()
        await super().shutdown(sockets)
