"""Policies: how often and how long a worker tries a handler on one message. Pure data."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bus.common.exceptions import leaves
from bus.common.figures import seconds, whole
from bus.errors import ConfigurationError


class RetryPolicy(NamedTuple):
    """How often a handler is tried on one message before that becomes a dead letter.

    First up to `tries` times in place, with pauses that start at `pause`, double, and vary by half.
    Then once after each of `delays`, rounded up to 1, 5, 30, 120, 600 or 3600, while other messages
    continue. Pauses and delays are in seconds.

        Router("mail", retry={TimeoutError: RetryPolicy(tries=2, delays=[30, 600])})
    """

    tries: int = 4
    pause: float = 0.1
    delays: Sequence[float] = (1, 5, 30, 120, 600)


AHEAD = 6
"""How many messages are taken for each one that can be handled at once."""

DEFAULT = RetryPolicy()
GIVE_UP = RetryPolicy(tries=1, delays=())
"""Gives a message up at the first failure."""

Retries = RetryPolicy | Mapping[type[Exception], RetryPolicy]
"""One policy for all errors, or one per type of error; an error's nearest base class counts."""


def checked(retries: Retries, where: str) -> Mapping[type[Exception], RetryPolicy]:
    """Returns a policy per type of error, `Exception` included. Raises: ConfigurationError."""
    by_error = {Exception: retries} if isinstance(retries, RetryPolicy) else retries
    if not isinstance(by_error, Mapping):
        raise _no_policy(where, retries)
    policies = {Exception: DEFAULT}
    for error, policy in by_error.items():
        if not (isinstance(error, type) and issubclass(error, Exception)):
            raise ConfigurationError(
                f"{where}: retry= has the key {error!r}, which is not a class of exceptions; write "
                f"the class itself, as in retry={{TimeoutError: RetryPolicy(...)}}"
            )
        policies[error] = _checked(policy, where)
    return policies


def _checked(policy: Any, where: str) -> RetryPolicy:
    """Returns the policy with its times in seconds."""
    if not isinstance(policy, RetryPolicy):
        raise _no_policy(where, policy)
    place = f"{where}: RetryPolicy: "
    if not isinstance(policy.delays, Sequence):
        raise ConfigurationError(
            f"{place}delays={policy.delays!r:.100}: give a list of seconds, as in delays=[5, 60]"
        )
    read = RetryPolicy(
        whole(policy.tries, f"{place}tries", least=1),
        seconds(policy.pause, f"{place}pause", zero=True),
        tuple(seconds(delay, f"{place}delays=...", zero=False) for delay in policy.delays),
    )
    return policy if policy == read else read


def _no_policy(where: str, given: object) -> ConfigurationError:
    return ConfigurationError(
        f"{where}: retry={given!r:.100}: give one RetryPolicy(tries=...), or one for each class of "
        f"exceptions, as in retry={{TimeoutError: RetryPolicy(...)}}"
    )


def policy_for(
    error: BaseException, policies: Mapping[type[Exception], RetryPolicy]
) -> RetryPolicy:
    """Returns the policy of the error's nearest base class; of a group, the most patient one."""
    return max((_of_leaf(leaf, policies) for leaf in leaves(error)), key=_patience)


def _of_leaf(error: BaseException, policies: Mapping[type[Exception], RetryPolicy]) -> RetryPolicy:
    kinds = (policies[kind] for kind in type(error).__mro__ if kind in policies)
    return next(kinds, policies[Exception])  # `SystemExit`, for example, has no other


def _patience(policy: RetryPolicy) -> int:
    return policy.tries + len(policy.delays)
