"""Policies: how often and how long a worker tries a handler on one message. Pure data."""

from collections.abc import Mapping
from typing import NamedTuple

from bus.errors import ConfigurationError
from bus.judging import leaves


class RetryPolicy(NamedTuple):
    """How often a handler is tried on one message before it becomes a dead letter.

    First up to `tries` times in place, with pauses of `pause` seconds that double, each give or
    take a half. Then once after each of `delays` (seconds, each rounded up to a rung of the delay
    ladder: 1, 5, 30, 120, 600, 3600), during which other messages go on.
    """

    tries: int = 4
    pause: float = 0.1
    delays: tuple[float, ...] = (1, 5, 30, 120, 600)


DEFAULT = RetryPolicy()
GIVE_UP = RetryPolicy(tries=1, delays=())
"""At the first failure."""

Retries = RetryPolicy | Mapping[type[Exception], RetryPolicy]
"""One policy for every error, or one for each type of error: the nearest base class counts."""


def checked(retries: Retries, where: str) -> Mapping[type[Exception], RetryPolicy]:
    """A policy for each type of error, `Exception` included. Raises: ConfigurationError."""
    each = {Exception: retries} if isinstance(retries, RetryPolicy) else retries
    if not isinstance(each, Mapping) or not all(
        isinstance(policy, RetryPolicy) for policy in each.values()
    ):
        raise ConfigurationError(
            f"{where}: retry={retries!r:.100}: give one RetryPolicy(tries=...), or one for each "
            f"class of exceptions, as in retry={{TimeoutError: RetryPolicy(...)}}"
        )
    for error, policy in each.items():
        if not (isinstance(error, type) and issubclass(error, Exception)):
            raise ConfigurationError(
                f"{where}: retry= has the key {error!r}, which is not a class of exceptions; write "
                f"the class itself, as in retry={{TimeoutError: RetryPolicy(...)}}"
            )
        if policy.tries < 1 or policy.pause < 0 or any(delay <= 0 for delay in policy.delays):
            raise ConfigurationError(
                f"{where}: {policy!r}: give tries of 1 or more, a pause of 0 or more, and delays "
                f"above 0, in seconds"
            )
    return {Exception: DEFAULT, **each}


def policy_for(
    error: BaseException, policies: Mapping[type[Exception], RetryPolicy]
) -> RetryPolicy:
    """The policy of the error's nearest base class; of a group's errors, the most patient one."""
    return max((_of_one(one, policies) for one in leaves(error)), key=_patience)


def _of_one(error: BaseException, policies: Mapping[type[Exception], RetryPolicy]) -> RetryPolicy:
    kinds = (policies[kind] for kind in type(error).__mro__ if kind in policies)
    return next(kinds, policies[Exception])  # `SystemExit`, say, has no other


def _patience(policy: RetryPolicy) -> int:
    return policy.tries + len(policy.delays)
