"""Attributes: what is said of a span, by OpenTelemetry's semantic conventions for messaging.

`messaging/dup` in OTEL_SEMCONV_STABILITY_OPT_IN adds those of the conventions' version 1.24.
"""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from bus.common import clock
from bus.settings import MEMORY
from bus.transports.base import Delivery, Frame

Attributes = dict[str, str | int | float]
Operation = Literal["send", "receive", "process", "settle"]

DELAY = ".delay."
"""Between a service's name, which has no dot, and the seconds, in the name of an exchange."""

_FORMER = {"send": "publish", "receive": "receive", "process": "process"}


class Conventions:
    """Of one bus: what system it speaks to, where, and how its operations are named."""

    def __init__(self, service: str, amqp_url: str, environment: Mapping[str, str]) -> None:
        self._service = service
        self._says_former = _says_former(environment)
        self._server = _server_of(amqp_url, says_former=self._says_former)

    def of(self, operation: Operation, name: str, destination: str) -> Attributes:
        """Returns what all spans of messaging have. `destination` is a queue or an exchange."""
        attributes: Attributes = {
            **self._server,
            "messaging.operation.name": name,
            "messaging.operation.type": operation,
            "messaging.destination.name": destination,
        }
        if self._says_former and operation in _FORMER:
            attributes["messaging.operation"] = _FORMER[operation]
        return attributes

    def of_process(self, came: Delivery, handler: str, attempt: int) -> Attributes:
        """Returns what is said of one try of a worker to handle a message."""
        frame = came.frame
        parts = dict.fromkeys(part for part in (came.exchange, frame.topic, came.queue) if part)
        return {
            **self.of("process", "process", ":".join(parts)),
            **_of_message(frame),
            "messaging.destination.template": came.queue,
            "messaging.rabbitmq.message.delivery_tag": came.tag,
            "bus.message": frame.name,
            "bus.handler": handler,
            "bus.attempt": attempt,
            "bus.queue.seconds": age_of(frame),
        }

    def of_command(self, frame: Frame) -> Attributes:
        """Returns what is said of sending a command to the service's queue."""
        exchange = f"{self._service}.{frame.address}"
        return {
            **self.of("send", "send", f"{exchange}:{frame.topic}"),
            **_of_message(frame),
            "bus.message": frame.name,
        }

    def of_events(self, exchange: str, topics: Sequence[str], messages: int) -> Attributes:
        """Returns what is said of publishing messages, by these routing keys."""
        named = {destination(exchange, topic) for topic in topics}
        attributes = self.of("send", "send", named.pop() if len(named) == 1 else exchange)
        if len(topics) == 1 == messages:
            attributes["messaging.rabbitmq.destination.routing_key"] = topics[0]
        return {**attributes, **counted(messages)}


def destination(exchange: str, topic: str) -> str:
    """Returns an exchange and a routing key, without the slot of the stream that ends it.

    A delay is one place, whichever queue it is for.
    """
    if DELAY in exchange:
        return exchange
    name, _, slot = topic.rpartition(".")
    return f"{exchange}:{name if slot.isdecimal() and name else topic}"


def counted(messages: int) -> Attributes:
    """Returns what is said of a batch of several messages."""
    return {"messaging.batch.message_count": messages} if messages > 1 else {}


def age_of(frame: Frame) -> float:
    """Returns how many seconds ago a message was made; 0 if it does not say when."""
    return round(frame.age(clock.now()), 3)


def _of_message(frame: Frame) -> Attributes:
    return {
        "messaging.rabbitmq.destination.routing_key": frame.topic,
        "messaging.message.id": frame.id,
        "messaging.message.conversation_id": frame.correlation_id,
    }


def _server_of(url: str, *, says_former: bool) -> Attributes:
    if url == MEMORY:
        return {"messaging.system": "memory"}
    parts = urlsplit(url.split(",")[0])
    host, port = parts.hostname or "", parts.port or (5671 if parts.scheme == "amqps" else 5672)
    attributes: Attributes = {
        "messaging.system": "rabbitmq",
        "server.address": host,
        "server.port": port,
    }
    if says_former:
        attributes |= {"net.peer.name": host, "net.peer.port": port}
    return attributes


def _says_former(environment: Mapping[str, str]) -> bool:
    chosen = environment.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    return "messaging/dup" in (one.strip() for one in chosen)
