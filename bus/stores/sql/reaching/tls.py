"""TLS as the URL of a database asks for it; the server is always verified."""

import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any

from bus.common.urls import TLS, tls_context


def context_for(options: Mapping[str, Any], setting: str = "BUS_LOG_URL") -> ssl.SSLContext | None:
    """Returns what connections are made with, by the options of a URL; None if they do not ask for
    TLS.

    Raises: ConfigurationError.
    """
    if not any(name in options for name in TLS):
        return None
    return tls_context(options, setting)


class WithTls:
    """Listens where an engine connects, and gives its driver what the URL asks for; to the driver
    itself our options are unknown."""

    def __init__(self, options: Mapping[str, Any], setting: str = "BUS_LOG_URL") -> None:
        self._options = options
        self._setting = setting
        self._context: ssl.SSLContext | None = None

    def __call__(self, dialect: Any, record: Any, words: Any, options: dict[str, Any]) -> None:
        """Raises: ConfigurationError."""
        for name in TLS:
            options.pop(name, None)
        self._context = self._context or context_for(self._options, self._setting)
        if self._context is None:
            return
        options["ssl"] = self._context
        if dialect.driver == "aiomysql":
            options["async_creator_fn"] = _by_aiomysql


async def _by_aiomysql(*words: Any, **options: Any) -> Any:
    """Connects by TLS or not at all. The driver itself would go on without TLS, if a server, or who
    stands before it, says that it has none."""
    connection = _over_tls()(*words, **options)
    await connection._connect()
    return connection


@cache
def _over_tls() -> Any:
    from aiomysql.connection import CLIENT, Connection

    class OverTls(Connection):  # type: ignore[misc, unused-ignore]
        async def _request_authentication(self) -> None:
            if not self.server_capabilities & CLIENT.SSL:
                raise ssl.SSLError("the server offers no TLS")
            await super()._request_authentication()

    return OverTls
