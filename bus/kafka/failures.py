"""What an error of Kafka's means. Closed lists say what is about a record, and what about rights;
all else is an outage, after which the same is sent again."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors

from bus.common.exceptions import own
from bus.common.fingerprint import reason_of
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
    errors.SaslAuthenticationFailed,
    errors.AuthenticationFailedError,
)
ABOUT_VERSIONS: tuple[type[Exception], ...] = (
    errors.IncompatibleBrokerVersion,
    errors.UnsupportedVersionError,
    errors.UnsupportedSaslMechanismError,
)


def translated(error: BaseException, where: str) -> Exception:
    """Returns what an error of the client's means for what `where` names."""
    said = f"{type(error).__name__}{': ' if str(error) else ''}{reason_of(error)}"[:500]
    if isinstance(error, ABOUT_RECORDS):
        return ProjectionError(
            f"{where}: Kafka refuses a record ({said}); raise max_bytes= of the declaration and "
            f"max.message.bytes of the topic, if it may be so large"
        )
    if isinstance(error, ABOUT_RIGHTS):
        return NotAllowed(
            f"{where}: Kafka does not allow this user to use it ({said}); grant the rights that "
            f"docs/kafka.md lists"
        )
    if isinstance(error, ABOUT_VERSIONS):
        return ConfigurationError(f"{where}: this Kafka cannot do what is asked of it ({said})")
    return StoreUnavailable(f"{where}: Kafka does not answer, or not now ({said})")


@contextmanager
def told(where: str) -> Iterator[None]:
    """Raises: ProjectionError, StoreUnavailable, NotAllowed, ConfigurationError for errors of the
    client's within, and for what takes too long."""
    try:
        yield
    except (errors.KafkaError, OSError, TimeoutError, AssertionError) as error:
        raise translated(error, where) from error
    except asyncio.CancelledError as error:
        if not own(error):
            raise
        raise translated(errors.Cancelled("it was cancelled within"), where) from error
