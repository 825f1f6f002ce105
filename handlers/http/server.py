"""The server: asks open streams to end before it waits for them."""

import socket

import uvicorn
from fastapi import FastAPI

STOP_WITHIN = 10
"""Seconds; requests that take longer are cut off."""


class Server(uvicorn.Server):
    """Serves the app until SIGTERM or SIGINT, and at most ten seconds longer."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                access_log=False,
                log_config=None,  # its lines go the way of all others (log.configure)
                timeout_graceful_shutdown=STOP_WITHIN,
            )
        )
        self._closing = app.state.closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends live streams first, because the server would wait for their clients to leave."""
        self._closing.set()
        await super().shutdown(sockets)
