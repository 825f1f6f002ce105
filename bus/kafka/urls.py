"""How Kafka's brokers are reached, by one URL. An error never quotes it: it may hold a password."""

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bus.common.urls import ENCODED, Url, tls_context
from bus.errors import ConfigurationError, StoreUnavailable

FORM = "kafka://user:password@host:port,host:port/?tls=true"
OPTIONS = ("tls", "cafile", "certfile", "keyfile", "mechanism")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
REQUEST_WITHIN_MS = 10_000


def connection(url: Url, where: str) -> dict[str, Any]:
    """Returns how clients connect, for all of aiokafka's.

    Raises: ConfigurationError; StoreUnavailable if the function that was given for a URL fails.
    """
    parts, options = _read(_told(url, where), where)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    found: dict[str, Any] = {
        "bootstrap_servers": [host.strip() for host in hosts.split(",")],
        "request_timeout_ms": REQUEST_WITHIN_MS,
        "security_protocol": ("SASL_" if user else "")
        + ("SSL" if "tls" in options else "PLAINTEXT"),
    }
    if "tls" in options:
        found["ssl_context"] = tls_context(options, where)
    if user:
        found |= {
            "sasl_mechanism": options.get("mechanism", "SCRAM-SHA-512"),
            "sasl_plain_username": unquote(user),
            "sasl_plain_password": unquote(password),
        }
    return found


def check(url: object, where: str) -> None:
    """Raises: ConfigurationError if this is no URL of Kafka; files that it names are not read, and
    functions not called."""
    if not callable(url):
        _read(url, where)


def _told(url: Url, where: str) -> str:
    if isinstance(url, str):
        return url
    try:
        return url()
    except Exception as error:
        raise StoreUnavailable(
            f"{where}: the function that was given as url= raises {type(error).__name__}; it is "
            f"called again for the next connection"
        ) from error


def _read(url: object, where: str) -> tuple[SplitResult, dict[str, str]]:
    if not isinstance(url, str):
        raise ConfigurationError(
            f"{where}: url= is text, as in {FORM}, or a function that returns it"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused(where, "cannot be read") from None
    if parts.scheme != "kafka":
        raise _refused(where, "does not begin with kafka://")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if not all(_is_host(host.strip()) for host in hosts):
        raise _refused(where, "does not give each broker as host:port")
    if parts.netloc.count("@") > 1 or parts.path.strip("/") or parts.fragment:
        raise _refused(where, f"has more than brokers and options; {ENCODED}")
    return parts, _options(parts.query, bool(parts.netloc.rpartition("@")[0]), where)


def _options(query: str, has_user: bool, where: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    for name in options:
        if name not in OPTIONS:
            raise _refused(where, f"has an option {name:.40}, and there are {', '.join(OPTIONS)}")
    if len(options) < len(pairs) or not all(options.values()):
        raise _refused(where, "has an option twice, or without a value")
    if options.get("tls", "true") != "true":
        raise _refused(where, "has another value for tls than true: leave it out for none")
    if options.keys() & {"cafile", "certfile", "keyfile"} and "tls" not in options:
        raise _refused(where, "names files for TLS without tls=true")
    if "keyfile" in options and "certfile" not in options:
        raise _refused(where, "has keyfile without certfile")
    if options.get("mechanism", MECHANISMS[0]) not in MECHANISMS:
        raise _refused(where, f"has another mechanism than {', '.join(MECHANISMS)}")
    if "mechanism" in options and not has_user:
        raise _refused(where, "has a mechanism, and no user")
    return options


def _is_host(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _refused(where: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: the URL {why}; write it as {FORM}")
