"""TLS as the URL of a database asks for it; the server is always verified."""

import ssl
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from bus.common.urls import TLS, no_password
from bus.errors import ConfigurationError

TLS_REMEDY = (
    "check that cafile= is the authority that signed the server's certificate, that the URL has "
    "the host name which that names, and certfile= and keyfile= if the server asks for one of ours"
)


def context_for(options: Mapping[str, Any], setting: str = "BUS_LOG_URL") -> ssl.SSLContext | None:
    """Returns what connections are made with, by the options of a URL; None if they do not ask for
    TLS.

    Raises: ConfigurationError if a file cannot be read, or holds no certificate.
    """
    if not any(name in options for name in TLS):
        return None
    named = {name: options.get(name) for name in TLS}
    read = partial(_read, setting)
    context: ssl.SSLContext = read("cafile", named["cafile"], lambda: _trusting(named["cafile"]))
    if certificate := named["certfile"]:
        key = named["keyfile"]
        which = f"{certificate} (and keyfile={key})" if key else certificate
        read("certfile", which, lambda: context.load_cert_chain(certificate, key, no_password))
    return context


def _trusting(authority: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


def _read(setting: str, option: str, path: Any, read: Any) -> Any:
    try:
        return read()
    except OSError as error:
        why = "it holds none" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"{setting}: {option}={path} cannot be read ({why}): correct the path in the URL, or "
            f"the file's permissions; certificates are read as PEM, a key without a password"
        ) from None


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
