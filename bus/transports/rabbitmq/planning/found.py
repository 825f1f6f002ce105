"""What a source saw at the broker, and what it could not see. No I/O."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class FoundExchange(NamedTuple):
    """An exchange. `kind` is None, and `arguments` empty, where only its existence can be seen.
    `refusal` is that of `FoundQueue`."""

    name: str
    kind: str | None = None
    durable: bool = True
    arguments: Mapping[str, Any] = {}
    refusal: str = ""


class FoundPolicy(NamedTuple):
    """What all policies on one queue come to. `name` is that of the policy, and of the operator's
    policy behind a comma."""

    name: str
    definition: Mapping[str, Any]


NO_POLICY = FoundPolicy("", {})


class FoundQueue(NamedTuple):
    """A queue. None stands for what the source cannot see.

    `arguments` are as declared, `bindings` pairs of an exchange and a topic, without the one to the
    default exchange that every queue has. `messages` counts those that are out with consumers too,
    where the source can see them. `refusal` is what RabbitMQ said to a declaration, where that is
    how arguments were compared; empty if it agreed.
    """

    name: str
    messages: int | None = None
    consumers: int | None = None
    arguments: Mapping[str, Any] | None = None
    bindings: frozenset[tuple[str, str]] | None = None
    policy: FoundPolicy | None = None
    durable: bool = True
    auto_delete: bool = False
    refusal: str = ""


class Unseen(NamedTuple):
    """What a source could not look at, and how to have it looked at."""

    what: str
    remedy: str


class Found(NamedTuple):
    """What is in a virtual host, by name. `source` says in words where this is from.

    Where `is_whole`, all of its queues and exchanges are here, also those that nobody declares.
    `timeout` is the consumer_timeout of the broker in seconds, None if it is not known.
    """

    source: str
    queues: Mapping[str, FoundQueue]
    exchanges: Mapping[str, FoundExchange]
    is_whole: bool = True
    unseen: tuple[Unseen, ...] = ()
    timeout: float | None = None
