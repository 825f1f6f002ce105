"""Checks the URLs of broker and database before anything connects, and reads the files that they
name for TLS.

An error about a URL never quotes it, because a password may be anywhere in a malformed one.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from bus.errors import ConfigurationError

AMQP_SCHEMES = ("amqp", "amqps")
MONGO_SCHEMES = ("mongodb", "mongodb+srv")
HTTP_SCHEMES = ("http", "https")

LOG_SCHEMES = ("postgresql+asyncpg", "mysql+aiomysql", "mariadb+aiomysql")
TLS = ("tls", "cafile", "certfile", "keyfile")
"""How a log's URL asks for TLS, whatever the driver is."""
_LOG_OPTIONS = {
    "postgresql": (*TLS, "host", "target_session_attrs", "prepared_statement_cache_size"),
    "mysql": (*TLS, "host", "unix_socket"),
    "mariadb": (*TLS, "host", "unix_socket"),
}
_TLS_REMEDY = (
    "write tls=true, and cafile=FILE for the authority that signed the server's certificate "
    "(certfile=FILE and keyfile=FILE for one of ours)"
)

TLS_REMEDY = (
    "check that cafile= is the authority that signed the server's certificate, that the URL has "
    "the host name which that names, and certfile= and keyfile= if the server asks for one of ours"
)

Url = str | Callable[[], str]
"""A URL, or a function that returns it, so that its password need not be known before."""

ENCODED = "percent-encode user and password, each by urllib.parse.quote(text, safe='')"

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The hosts that are this machine."""

_STRAY = re.compile(r"%(?![0-9A-Fa-f]{2})")

_LOG_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
}
_ASYNCHRONOUS = frozenset({"asyncmy", "psycopg", "psycopg_async"})

_UNVERIFIED = {
    "no_verify_ssl": "cafile",
    "tlsinsecure": "tlsCAFile",
    "tlsallowinvalidcertificates": "tlsCAFile",
    "tlsallowinvalidhostnames": "tlsCAFile",
    "ssl_cert_reqs": "tlsCAFile",
    "ssl_match_hostname": "tlsCAFile",
}
"""Options that turn TLS checks off, and the option for the authority's certificate instead."""


def problem_of(url: str, schemes: tuple[str, ...]) -> str | None:
    """Returns why this URL may not be used, or None."""
    form = f"{schemes[0]}://user:password@host:port/"
    unreadable = f"does not read as {form}; {ENCODED}"
    try:
        parts = urlsplit(url)
        if parts.scheme not in schemes:
            return f"must begin with {':// or '.join(schemes)}://, as in {form}"
        if parts.scheme in MONGO_SCHEMES and _STRAY.search(parts.netloc.rpartition("@")[0]):
            return f"has a % that no two hexadecimal digits follow; {ENCODED} (a % becomes %25)"
        if not _names_a_host(parts) or "@" in f"{parts.path}{parts.query}" or parts.fragment:
            return unreadable
    except ValueError:
        return unreadable
    return _insecure(parts) or (_sign_in_problem(parts) if "amqp" in schemes else None)


def problem_of_log(url: str) -> str | None:
    """Returns why the URL of a log in SQL may not be used, or None."""
    scheme = url.partition(":")[0]
    if scheme not in LOG_SCHEMES:
        return _other_driver(scheme)
    form = f"{scheme}://user:password@host:port/database"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, 0
    if (
        parts is None
        or port == 0
        or not (
            parts.hostname or "host" in dict(parse_qsl(parts.query))
        )  # several hosts stand there
        or parts.netloc.count("@") > 1
        or "@" in f"{parts.path}{parts.query}"
        or parts.fragment
        or _STRAY.search(parts.netloc.rpartition("@")[0])
    ):
        return f"does not read as {form}; {ENCODED}"
    if not parts.path.strip("/"):
        return f"names no database: write {form}; the database is the service's own"
    return _option_problem(scheme.partition("+")[0], parts.query)


def _other_driver(scheme: str) -> str:
    base, _, driver = scheme.lower().partition("+")
    meant = _LOG_DRIVERS.get(base)
    if not meant:
        return f"must begin with {':// or '.join(LOG_SCHEMES)}://"
    if driver in _ASYNCHRONOUS:
        return f"names the driver {driver}, which is not supported: begin it with {meant}://"
    return f"names no asynchronous driver: begin it with {meant}://"


def _option_problem(base: str, query: str) -> str | None:
    """Returns why the options of a log's URL cannot be taken, without their values, or None."""
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    known = _LOG_OPTIONS[base]
    for name, value in pairs:
        if name not in known and name.lower().startswith(("ssl", "tls", "direct_tls")):
            return f"has {name}, by which TLS is asked for elsewhere: {_TLS_REMEDY}"
        if name not in known:
            return f"has an option {name:.40}, and those that it can have are {', '.join(known)}"
        if not value and name != "host":
            return f"has {name} without a value: leave it out, or write {name}=..."
        if name != "host" and sum(name == other for other, _ in pairs) > 1:
            return f"has {name} more than once: write it once"
    if options.get("tls", "true") != "true":
        return f"has another value for tls than true: {_TLS_REMEDY}, or leave them out"
    if "keyfile" in options and "certfile" not in options:
        return "has keyfile without certfile: give the certificate of that key as certfile=FILE"
    if not options.get("prepared_statement_cache_size", "0").isdecimal():
        return "has another value for prepared_statement_cache_size than a whole number"
    return None


def _names_a_host(parts: SplitResult) -> bool:
    """Returns whether it names a host. Raises: ValueError for a port that is no number."""
    if parts.scheme in (*AMQP_SCHEMES, *HTTP_SCHEMES):
        return bool(parts.hostname) and parts.port != 0
    return bool(parts.netloc.rpartition("@")[2].strip(":,"))  # several hosts, a port for each


def has_database(url: str) -> bool:
    """Returns whether a MongoDB URL names a database for data: not `admin`, which is where users
    are kept."""
    return urlsplit(url).path not in ("", "/", "/admin")


def open_places(url: str) -> list[str]:
    """Returns the hosts beyond this machine that a URL leads to without TLS."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query)
    if _asks_for_tls(parts.scheme, {name.lower(): value for name, value in pairs}):
        return []
    named = [parts.netloc.rpartition("@")[2], *(value for name, value in pairs if name == "host")]
    hosts = (_host(place) for several in named for place in several.split(","))
    return [host for host in hosts if host and not host.startswith("/") and host not in LOOPBACK]


def _asks_for_tls(scheme: str, options: Mapping[str, str]) -> bool:
    """Returns whether it does, by its scheme or by its options, as its driver or ours reads them.
    A file for TLS asks for it, too."""
    if scheme in (*AMQP_SCHEMES, *HTTP_SCHEMES):
        return scheme in ("amqps", "https")
    if said := options.get("tls", options.get("ssl")):
        return said == "true"
    return scheme == "mongodb+srv" or any(name.startswith("tls") or name in TLS for name in options)


def _host(place: str) -> str:
    """Returns the host of `host:port` or `[::1]:port`."""
    return place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]


def _insecure(parts: SplitResult) -> str | None:
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if remedy := _UNVERIFIED.get(name.lower()):
            return (
                f"has {name}, which turns the checks of TLS off: remove it, give the authority's "
                f"certificate as {remedy}=... and the host name that the server's certificate names"
            )
    return None


def _sign_in_problem(parts: SplitResult) -> str | None:
    """Returns why this URL's `auth` cannot be taken, without its value, or None."""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    auth = options.get("auth", "plain").lower()
    if auth not in ("plain", "external"):
        return (
            "has another value for auth than external: write auth=external to sign in by the "
            "certificate of certfile=, or leave auth out to sign in by user and password"
        )
    if auth == "plain":
        return None
    if parts.scheme != "amqps":
        return "has auth=external without TLS, so that no certificate is shown: begin with amqps://"
    if not options.get("certfile"):
        return (
            "has auth=external without certfile: give the certificate that names the broker's user "
            "as certfile=FILE, and its key as keyfile=FILE unless that file holds both"
        )
    if "@" in parts.netloc:
        return (
            "has auth=external and a user, at which the broker would not look: remove all before "
            "the host, as the certificate names the user"
        )
    return None


def tls_context(options: Mapping[str, Any], where: str) -> ssl.SSLContext:
    """Returns what connections by TLS are made with, by the options of a URL: `cafile`, `certfile`
    and `keyfile`. The server is always verified.

    Raises: ConfigurationError, for what `where` names, if a file cannot be read, or does not hold
    what it ought to.
    """
    authority, certificate, key = map(options.get, ("cafile", "certfile", "keyfile"))
    trusting = partial(ssl.create_default_context, cafile=authority)
    context = _read(where, f"cafile={authority}", trusting)
    if certificate:
        which = f"certfile={certificate}{f' (and keyfile={key})' if key else ''}"
        _read(where, which, lambda: context.load_cert_chain(certificate, key, _no_password))
    return context


T = TypeVar("T")


def _read(where: str, which: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except OSError as error:
        why = "it holds none" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"{where}: {which} cannot be read ({why}): correct the path in the URL, or the file's "
            f"permissions; certificates are read as PEM, a key without a password"
        ) from None


def _no_password() -> str:
    """Returns none for a private key, so that nobody is asked for it on a terminal."""
    return ""
