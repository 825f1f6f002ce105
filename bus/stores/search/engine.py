"""A search engine as its place speaks to it: each request bounded, each failure one of ours.

Nothing is tried again here, or by the client: who asks decides that, by the versions.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from opensearchpy import AsyncOpenSearch
from opensearchpy.exceptions import SerializationError, TransportError

from bus.common.urls import ENCODED, problem_of, tls_context
from bus.errors import ConfigurationError, OutcomeUnknown, StoreUnavailable
from bus.stores.search.failures import ABSENT, translated

ANSWER_WITHIN = 10.0
WRITE_WITHIN = 30.0
PASSING = frozenset({401, 403, 429, 502, 503, 504})
"""Statuses by which an engine says that it does not answer at present."""
OPTIONS = ("cafile", "certfile", "keyfile")


class Address(NamedTuple):
    """Where nodes of an engine are, as their URLs say."""

    hosts: tuple[Mapping[str, Any], ...]
    label: str
    """For errors: without user and password."""

    def __repr__(self) -> str:
        return f"Address({self.label!r})"


def address_of(urls: str | Sequence[str]) -> Address:
    """Reads the URLs of an engine's nodes. Raises: ConfigurationError."""
    nodes = [urls] if isinstance(urls, str) or not isinstance(urls, Sequence) else list(urls)
    if not nodes or not all(isinstance(url, str) for url in nodes):
        raise ConfigurationError(
            "SearchIndex(url=...) takes a URL, a list of them, or a function that returns either"
        )
    hosts = tuple(_host_of(url) for url in nodes)
    return Address(hosts, ", ".join(f"{host['host']}:{host['port']}" for host in hosts))


def _host_of(url: str) -> Mapping[str, Any]:
    if problem := problem_of(url, ("http", "https")) or _misread(url):
        raise ConfigurationError(f"SearchIndex(url=...): the URL {problem}")
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := [name for name in options if name not in OPTIONS]:
        raise ConfigurationError(
            f"SearchIndex(url=...): the URL has an option {unknown[0]:.40}, and those that it can "
            f"have are {', '.join(OPTIONS)}"
        )
    if options and parts.scheme != "https":
        raise ConfigurationError(
            f"SearchIndex(url=...): the URL has {', '.join(options)}, which are for TLS, and "
            f"begins with http://; write https://"
        )
    host: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port or (443 if parts.scheme == "https" else 9200),
        "url_prefix": parts.path.strip("/"),
    }
    if parts.username is not None:
        host["headers"] = {"authorization": _authorization(parts.username, parts.password or "")}
    if parts.scheme == "https":
        host |= {
            "use_ssl": True,
            "scheme": "https",
            "ssl_context": tls_context(options, "SearchIndex(url=...)"),
        }
    return host


def _authorization(user: str, password: str) -> str:
    """Returns who asks, in UTF-8, as engines read it: the client itself would write Latin-1."""
    login = f"{unquote(user)}:{unquote(password)}"
    return f"Basic {b64encode(login.encode()).decode()}"


def _misread(url: str) -> str | None:
    """Returns why a URL does not say what its writer meant, or None."""
    parts = urlsplit(url)
    try:
        is_clear = bool(parts.hostname) and parts.port != 0 and parts.netloc.count("@") <= 1
    except ValueError:
        is_clear = False
    return None if is_clear else f"does not read as http://user:password@host:port; {ENCODED}"


class Engine:
    """One client of an engine, for as long as a bus is open."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: AsyncOpenSearch | None = None

    @property
    def where(self) -> str:
        """Which engine it is, for errors."""
        return f"search engine {self._address.label}"

    @property
    def client(self) -> AsyncOpenSearch:
        """The client, which connects with its first request, and never repeats one."""
        if self._client is None:
            self._client = AsyncOpenSearch(
                hosts=[dict(host) for host in self._address.hosts],
                timeout=ANSWER_WITHIN,
                max_retries=0,
                retry_on_status=(),
                retry_on_timeout=False,
            )
        return self._client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        within: float = ANSWER_WITHIN,
        writing: bool = False,
        **parameters: str,
    ) -> Any:
        """Sends one request, and returns its answer; None if what it asks for is not there.

        Raises: StoreUnavailable, OutcomeUnknown (where it writes), TooLarge.
        """
        try:
            answer = await self.raw(method, path, body, within=within, ignore=ABSENT, **parameters)
        except TransportError as error:
            raise translated(self.where, error, writing=writing) from None
        except (SerializationError, UnicodeDecodeError) as error:
            what = f"{self.where}: its answer cannot be read ({type(error).__name__})"
            raise (OutcomeUnknown(what) if writing else StoreUnavailable(what)) from None
        is_absent = isinstance(answer, dict) and answer.get("status") == ABSENT
        return None if is_absent else answer

    async def raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        within: float = ANSWER_WITHIN,
        ignore: int = 0,
        **parameters: str,
    ) -> Any:
        """Sends one request; one status may be ignored, of which the client would write a line into
        the log. Raises: the client's errors."""
        headers = {"content-type": "application/x-ndjson"} if isinstance(body, bytes) else None
        return await self.client.transport.perform_request(
            method, path, parameters, body, timeout=within, headers=headers, ignore=(ignore,)
        )

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Has outages that a query's own use of the client meets be the bus's errors; what the
        engine says of the query passes as it is."""
        try:
            yield
        except TransportError as error:
            status = error.status_code
            if not isinstance(status, int) or status in PASSING:
                raise translated(self.where, error, writing=False) from error
            raise
