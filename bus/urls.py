"""The URLs of broker and database, looked at before anybody connects.

What it says about a URL never quotes it: a password may stand anywhere in one that is not written
as it should be.
"""

from urllib.parse import SplitResult, parse_qsl, urlsplit

AMQP_SCHEMES = ("amqp", "amqps")
MONGO_SCHEMES = ("mongodb", "mongodb+srv")

_UNVERIFIED = {
    "no_verify_ssl": "cafile",
    "tlsinsecure": "tlsCAFile",
    "tlsallowinvalidcertificates": "tlsCAFile",
    "tlsallowinvalidhostnames": "tlsCAFile",
    "ssl_cert_reqs": "tlsCAFile",
    "ssl_match_hostname": "tlsCAFile",
}
"""Options that turn TLS checks off, and where to put the authority's certificate instead."""


def problem_of(url: str, schemes: tuple[str, ...]) -> str | None:
    """Why this URL may not be used, or None."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "cannot be read as a URL"
    if parts.scheme not in schemes:
        return f"is no URL of {' or '.join(schemes)}"
    if "@" in f"{parts.path}{parts.query}" or parts.fragment:
        return (
            "has an @ or a # behind the host: percent-encode / ? # @ : , in user and password "
            "(urllib.parse.quote_plus)"
        )
    return _insecure(parts)


def _insecure(parts: SplitResult) -> str | None:
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if remedy := _UNVERIFIED.get(name.lower()):
            return (
                f"has {name}, which turns the checks of TLS off: remove it, give the authority's "
                f"certificate as {remedy}=... and the host name that the server's certificate names"
            )
    return None
