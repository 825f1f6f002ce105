"""TLS as the URL of a database asks for it; the server is always verified."""

import ssl
from collections.abc import Mapping
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
        if self._context is not None:
            options["ssl"] = self._context
