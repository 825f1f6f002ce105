"""Connects by aiomysql, which by itself goes on without TLS where the server, or who stands before
it, says that it has none, and does not wait for the end of what it closes."""

import asyncio
import ssl
from contextlib import suppress
from functools import cache
from typing import Any

CLOSED_WITHIN = 1.0


def by_aiomysql(dialect: Any, record: Any, words: Any, options: dict[str, Any]) -> None:
    """Listens where an engine connects."""
    if dialect.driver == "aiomysql":
        options["async_creator_fn"] = _connected


async def _connected(*words: Any, **options: Any) -> Any:
    connection = _connection()(*words, **options)
    await connection._connect()
    return connection


@cache
def _connection() -> Any:
    from aiomysql.connection import CLIENT, Connection

    class OwnConnection(Connection):  # type: ignore[misc, unused-ignore]
        async def _request_authentication(self) -> None:
            if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
                raise ssl.SSLError("the server offers no TLS")
            try:
                await super()._request_authentication()
            except BaseException:
                await _closed(self._writer)
                raise

        async def ensure_closed(self) -> None:
            """Says farewell, and waits until the socket is closed: to end TLS takes an answer, and
            a process may end its event loop next."""
            writer = self._writer
            await super().ensure_closed()
            await _closed(writer)

    return OwnConnection


async def _closed(writer: asyncio.StreamWriter | None) -> None:
    if writer is not None:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN):
                await writer.wait_closed()
