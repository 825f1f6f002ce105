"""What to do about what RabbitMQ refuses, in words. No I/O."""

from bus.common.urls import ENCODED

_TLS = (
    "check that cafile= is the authority that signed the broker's certificate, that the URL has "
    "the host name which that names, that certfile= and keyfile= are given if the broker asks for "
    "a certificate, and are valid and by an authority that it trusts, and that the port is the one "
    "for TLS"
)
_SIGN_IN = f"check user and password in the URL ({ENCODED}: a space is %20 then, and a + is %2B)"
_NO_SUCH_USER = (
    "the broker has no user of the name in the certificate of certfile=, which openssl x509 "
    "-noout -subject -in FILE shows: make that user (rabbitmqctl add_user NAME PASSWORD, then "
    "rabbitmqctl clear_password NAME), or give the certificate of one that there is. The name is "
    "the certificate's CN where the broker has ssl_cert_login_from = common_name, else all of its "
    "subject"
)
_NOT_OFFERED = (
    "for auth=external it needs the plugin rabbitmq_auth_mechanism_ssl, EXTERNAL among its "
    "auth_mechanisms, ssl_options.verify = verify_peer, and no proxy before it at which TLS ends; "
    "for user and password, PLAIN among its auth_mechanisms"
)
_ALERTS = {
    "unknown_ca": "the broker does not know the authority that signed the certificate of "
    "certfile=: add that authority to the file of its ssl_options.cacertfile, or give a "
    "certificate by one that is in it",
    "certificate_expired": "the certificate of certfile= has expired: give one that is valid",
    "certificate_required": "the broker asks for a certificate, and the URL names none: add "
    "certfile=FILE and keyfile=FILE",
}
"""What a broker says of our certificate, in the names that OpenSSL has for it."""
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
        return f"{reason}; {_NO_SUCH_USER if 'mechanism external' in words else _SIGN_IN}"
    if type(error).__name__ == "AuthenticationError":  # whose words are two lists
        offered = str(error.args[0]) or "nothing"
        return f"the broker lets nobody in as the URL asks, only by {offered}; {_NOT_OFFERED}"
    for alert, meaning in _ALERTS.items():
        if f"alert_{alert}" in words:
            return f"{reason}; {meaning}"
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
