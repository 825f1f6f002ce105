"""What an error of Kafka's means. Closed lists say what is about a record, and what about rights;
all else is an outage, after which the same is sent again."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors

from bus.common.exceptions import own
from bus.common.fingerprint import reason_of
from bus.common.urls import ENCODED, TLS_REMEDY
from bus.errors import ConfigurationError, NotAllowed, ProjectionError, StoreUnavailable

ABOUT_RECORDS: tuple[type[Exception], ...] = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.RecordTooLargeError,
    errors.InvalidTimestampError,
)
ABOUT_RIGHTS: tuple[type[Exception], ...] = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)
ABOUT_NAMES: tuple[type[Exception], ...] = (
    errors.SaslAuthenticationFailed,
    errors.AuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
ABOUT_VERSIONS: tuple[type[Exception], ...] = (
    errors.IncompatibleBrokerVersion,
    errors.UnsupportedVersionError,
)
SENDS = "Describe, DescribeConfigs and Write on the topic, and Create where workers are to make it"
IS_FED = "Describe and Read on the topic, and Read on groups that begin with the service's name"


def translated(error: BaseException, where: str, rights: str) -> Exception:
    """Returns what an error of the client's means for what `where` names, and needs rights."""
    said = f"{type(error).__name__}{': ' if str(error) else ''}{reason_of(error)}"[:500]
    if isinstance(error, ABOUT_RECORDS):
        return ProjectionError(
            f"{where}: Kafka refuses a record ({said}); raise max_bytes= of the declaration and "
            f"max.message.bytes of the topic, if it may be so large"
        )
    if isinstance(error, ABOUT_RIGHTS):
        return NotAllowed(
            f"{where}: Kafka does not allow this user to use it ({said}); grant the URL's user, by "
            f"kafka-acls: {rights}"
        )
    if isinstance(error, ABOUT_NAMES):
        return NotAllowed(
            f"{where}: Kafka does not let this user in ({said}); check user, password and "
            f"mechanism= in the URL ({ENCODED}); where a password was changed, give the new URL "
            f"and start this process again (a function that is given as url= is called anyway)"
        )
    if isinstance(error, ssl.SSLError):
        return StoreUnavailable(f"{where}: no connection to Kafka by TLS ({said}); {TLS_REMEDY}")
    if isinstance(error, ABOUT_VERSIONS):
        return ConfigurationError(f"{where}: this Kafka cannot do what is asked of it ({said})")
    if isinstance(error, errors.KafkaConnectionError):
        return StoreUnavailable(
            f"{where}: Kafka cannot be reached ({said}); is it running, are its brokers those of "
            f"the URL, and do they ask for TLS (tls=true), or for a user or a certificate of ours "
            f"(certfile=), as the URL says?"
        )
    return StoreUnavailable(f"{where}: Kafka does not answer, or not now ({said})")


@contextmanager
def told(where: str, rights: str) -> Iterator[None]:
    """Raises: ProjectionError, StoreUnavailable, NotAllowed, ConfigurationError for errors of the
    client's within, and for what takes too long."""
    try:
        yield
    except (errors.KafkaError, OSError, TimeoutError, AssertionError) as error:
        raise translated(error, where, rights) from error
    except asyncio.CancelledError as error:
        if not own(error):
            raise
        cut = errors.Cancelled("it was cancelled within")
        raise translated(cut, where, rights) from error
