"""What to do about what RabbitMQ refuses, in words. No I/O."""

from bus.common.urls import ENCODED

_TLS = (
    "check that cafile= is the authority that signed the broker's certificate, that the URL has "
    "the host name which that names, that certfile= and keyfile= are given if the broker asks for "
    "a certificate, and that the port is the one for TLS"
)
_SIGN_IN = f"check user and password in the URL ({ENCODED}: a space is %20 then, and a + is %2B)"
_VHOST = (
    "the path of the URL is the virtual host, percent-encoded too: a / alone is its default, /%2Fx "
    "is the one named /x; make it by rabbitmqctl add_vhost, and let the user in by "
    "rabbitmqctl set_permissions -p VHOST USER ..."
)
_AWAY = "is it running, and is its URL right?"
# A broker that refuses a handshake says so and hangs up; which of the two arrives is chance.
_HANGING_UP = ("ssl", "reset", "broken pipe", "eof", "incomplete read", "aborted", "lost")


def reason_of(scheme: str, error: Exception) -> str:
    """Returns why no connection came about, and what to look at."""
    reason = str(error) or "no answer in time"
    words = f"{type(error).__name__} {reason}".lower()
    if "access_refused" in words:
        return f"{reason}; {_SIGN_IN}"
    if "connection.openok" in words:  # the driver does not say what came in its place
        return f"the broker does not open the virtual host of the URL to this user; {_VHOST}"
    if "vhost" in words:
        return f"{reason}; {_VHOST}"
    refused = scheme == "amqps" and any(word in words for word in _HANGING_UP)
    return f"{reason}; {_TLS if refused else _AWAY}"


def right_remedy(service: str) -> str:
    """Returns which rights a service's user needs, for the error when one was refused."""
    own = rf"^{service}\."
    return (
        f"let the user in the URL configure, write and read what begins with {service}., and write "
        f"to amq.default, by which messages come back to their queue from a delay or a dead "
        f"letter: rabbitmqctl set_permissions -p VHOST USER '{own}' "
        rf"'^({service}\.|amq\.default$)' '{own}'"
    )
