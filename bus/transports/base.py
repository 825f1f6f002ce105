"""What the bus asks of a message transport. Knows no broker.

A transport moves frames: from `publish` to the queues that its topology binds to the frame's
topic, and from a queue to the consumer that takes from its inbox.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from bus.data.limits import MAX_COUNT, MAX_HEADERS, MAX_KEY, MAX_WORD, size_of
from bus.errors import InvalidMessage, OutcomeUnknown
from bus.transports.topology import DELAYS, Topology

MAX_BODY = 1024 * 1024
MOST_WAITING = 16 * 1024 * 1024
"""How many bytes of unsettled bodies an inbox holds; one more message may be on its way."""
MAX_ADDRESS = 255
EPOCH = datetime.fromtimestamp(0, UTC)
"""The time of a message that does not say when it was made, as a stranger's may."""
LADDER = "on the ladder of delays"
DEATH_QUEUE, DEATH_REASON = "x-death-queue", "x-death-reason"
REPLY = "reply"
ADDRESSES = frozenset(
    ["events", "commands", "dead", "queue", REPLY, *(f"delay.{n}s" for n in DELAYS)]
)


class Frame(NamedTuple):
    """A message as it travels.

    `address` names the exchange by its role ("events" or "commands", see topology) and `topic` the
    routing within it. `id` is the message's identity, the same at every attempt to publish it.
    `time` is kept to the millisecond. Header values are strings and integers within 32 bits.

    A frame taken from the dead queue has the address "dead" and, besides its own headers,
    DEATH_QUEUE (which queue gave it up) and DEATH_REASON. A frame published to "queue" reaches
    only the queue that its topic names, and arrives with an empty address; one published to
    "delay.5s" does the same five seconds later.

    `reply_to` is set on frames published by `request`: the consumer answers by publishing to the
    address "reply" with `reply_to` as the topic.
    """

    address: str
    topic: str
    id: str
    name: str
    body: bytes
    time: datetime
    correlation_id: str
    headers: Mapping[str, str | int] = {}
    reply_to: str = ""

    def age(self, now: datetime) -> float:
        """Returns how many seconds ago it was made; 0 if it does not say when."""
        return 0.0 if self.time == EPOCH else max((now - self.time).total_seconds(), 0.0)


def refusal(frame: Frame) -> InvalidMessage | None:
    """Returns why no transport may carry this frame, or None."""
    words = f"{frame.topic}{frame.id}{frame.name}{frame.correlation_id}{frame.reply_to}"
    if (
        len(frame.body) <= MAX_BODY
        and frame.address in ADDRESSES
        and len(words) <= MAX_WORD
        and words.isascii()
        and _plain_headers(frame.headers)
    ):
        return None
    try:
        return _refusal(frame)
    except UnicodeEncodeError:
        return InvalidMessage(f"{frame.name!a}: text that UTF-8 cannot encode (lone surrogates)")


def _refusal(frame: Frame) -> InvalidMessage | None:
    if len(frame.body) > MAX_BODY:
        return InvalidMessage(
            f"{frame.name}: body of {len(frame.body):,} bytes, over {MAX_BODY:,}; keep large data "
            f"elsewhere, and let the message say where"
        )
    if frame.address not in ADDRESSES:
        return InvalidMessage(f"{frame.name}: no such address: {frame.address}")
    topic, place = ("", frame.topic) if frame.address == REPLY else (frame.topic, frame.reply_to)
    if size_of(place) > MAX_ADDRESS:
        return InvalidMessage(f"{frame.name[:80]}: its reply address is over {MAX_ADDRESS} bytes")
    words = {
        "topic": topic,
        "id": frame.id,
        "name": frame.name,
        "correlation id": frame.correlation_id,
    }
    for field, word in words.items():
        if size_of(word) > MAX_WORD:
            return InvalidMessage(
                f"{frame.name[:80]}: its {field} has {size_of(word)} bytes, more than {MAX_WORD}"
            )
    return refused_headers(frame)


def _plain_headers(headers: Mapping[str, str | int]) -> bool:
    """Returns whether the headers are so few, short and plain that they cannot exceed a limit."""
    text = ""
    for value in headers.values():
        if type(value) is str:
            text += value
        elif type(value) is not int or value >> 31:
            return False
    keys = "".join(headers)
    small = len(headers) <= 30 and len(keys) <= MAX_KEY and len(text) <= MAX_HEADERS // 2
    return small and keys.isascii() and text.isascii()


def refused_headers(frame: Frame) -> InvalidMessage | None:
    """Returns why a frame's headers may neither leave nor come in, or None."""
    if _plain_headers(frame.headers):
        return None
    size = 0
    for key, value in frame.headers.items():
        size += size_of(key) + 8
        if type(value) is str:
            size += size_of(value)
        elif type(value) is not int or not -(2**31) <= value < 2**31:
            return InvalidMessage(
                f"{frame.name[:80]}: header {key[:80]} must be text or an integer of 32 bits"
            )
        if size > MAX_HEADERS or size_of(key) > MAX_KEY or len(frame.headers) > MAX_COUNT:
            return InvalidMessage(
                f"{frame.name[:80]}: headers over {MAX_HEADERS} bytes, {MAX_KEY} a key, or more "
                f"than {MAX_COUNT}"
            )
    return None


def unanswered(frame: Frame, why: str) -> OutcomeUnknown:
    """Returns the error for a request that was sent and whose outcome is not known."""
    return OutcomeUnknown(
        f"{frame.name}: {why} (is a worker running?); it may have been carried out, or may be yet: "
        f"repeat it with id={frame.id!r} to get its receipt",
        id=frame.id,
    )


class Delivery(NamedTuple):
    """A frame as it arrived. `tag` is the inbox's own; `redelivered` is a hint only.

    `generation` grows whenever the inbox lost its connection: earlier deliveries can no longer be
    settled, and come again. `exchange` is where the frame was published, according to the broker;
    empty if it was sent straight to its queue.
    """

    frame: Frame
    queue: str
    tag: int
    generation: int
    redelivered: bool = False
    exchange: str = ""


class Inbox(Protocol):
    """The consumer of one queue. Survives lost connections by itself."""

    queue: str

    @property
    def consuming(self) -> bool:
        """Whether it believes that it is consuming the queue; the broker may disagree."""
        ...

    @property
    def problem(self) -> str | None:
        """Why it is not consuming, if that is known."""
        ...

    @property
    def idle_since(self) -> tuple[int, int] | None:
        """The latest delivery (generation and tag) if all deliveries are settled; None if one is
        not, or if it is not consuming."""
        ...

    @property
    def generation(self) -> int | None:
        """The generation whose deliveries can be settled now; None if there is none."""
        ...

    async def reopen(self, *, connection: bool = False) -> None:
        """Consumes again, as a new generation: for a consumer that the broker has forgotten.

        With `connection`, on a new connection, which the transport's other inboxes then use too.
        No-op while it is (re)connecting.
        """
        ...

    async def take(self, limit: int) -> list[Delivery]:
        """Waits until something has arrived, then returns all of it, at most `limit`, in order.

        After `stop`, returns at once: what is still buffered, and then an empty list.
        """
        ...

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Settles deliveries as done, in as few frames as their order allows.

        Ignores those of older generations.
        """
        ...

    async def reject(self, delivery: Delivery) -> None:
        """Returns a delivery as failed: it comes again, up to the queue's delivery limit."""
        ...

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Returns deliveries that are to come again, without counting as failures.

        (RabbitMQ before 4.3 does count them.)
        """
        ...

    async def stop(self) -> None:
        """Asks for no further deliveries; what was taken can still be settled."""
        ...

    async def close(self) -> None:
        """Gives every unsettled delivery back to the queue, in order, for the next consumer."""
        ...


class Transport(Protocol):
    """A connection to a broker that restores itself after a loss."""

    async def open(self) -> None:
        """Connects. Raises: TransportUnavailable if the broker does not answer in time,
        ConfigurationError if it cannot even be asked.

        After TransportUnavailable it goes on trying in the background until `close`: a service may
        start while its broker is away.
        """
        ...

    async def close(self) -> None:
        """Waits (bounded) for what is being published, then disconnects. Safe to call twice."""
        ...

    async def declare(self, topology: Topology) -> None:
        """Creates exchanges, queues and bindings, or finds them as they should be.

        Raises: TopologyMismatch (what, where, remedy), TransportUnavailable.
        """
        ...

    def made_anew(self) -> list[str]:
        """Returns the names of the queues that were missing when they were declared, or whose
        exchange was, since the last call; those of single consumers are left out."""
        ...

    async def restore(self, topology: Topology) -> list[str]:
        """Declares what is missing of the topology, and all bindings; returns what was missing.

        Raises: like `declare`.
        """
        ...

    async def publish(
        self,
        frames: Sequence[Frame],
        *,
        must_route: bool = False,
        checked: bool = False,
        timeout: float = 10.0,
    ) -> dict[str, Exception]:
        """Publishes frames and waits until each is confirmed, refused, or `timeout` seconds passed.

        Many calls may be in flight at once; those of one loop tick leave in one write. Returns the
        errors of the frames that are not known to be safe, by frame id:

        - Unroutable: no queue took it (only with `must_route`).
        - TransportUnavailable: the broker is away, blocked, refused it, or did not answer in time
          (then it may have arrived); or an event reached no queue although the topology has one
          for it (the topology is declared again).
        - InvalidMessage: too large, or headers that cannot travel; the other frames go. Skipped
          with `checked`, for frames that have passed `refusal` before.
        """
        ...

    async def request(self, frame: Frame, timeout: float) -> Frame:
        """Publishes a frame that must be routed, waits for its answer, and returns that.

        Only the answer's id, name, body and headers mean something; a late answer is dropped.
        Raises: Unroutable, TransportUnavailable (away, blocked or refused: nobody received it),
        InvalidMessage, OutcomeUnknown (sent, but not answered in time, or the connection was lost
        meanwhile).
        """
        ...

    async def inbox(self, queue: str, *, prefetch: int) -> Inbox:
        """Starts to consume `queue`; at most `prefetch` deliveries are unsettled at a time, and not
        many more than MOST_WAITING bytes.

        If the broker or the queue is away, waits a bounded time and then returns anyway: the inbox
        goes on trying.
        """
        ...

    async def consumers(self, queue: str) -> int:
        """Returns how many consumers the broker itself sees on `queue`; 0 if there is no such
        queue. On a single-consumer queue, those standing by may not be counted.

        Raises: TransportUnavailable.
        """
        ...

    async def delete(self, queues: Sequence[str]) -> None:
        """Deletes queues with all their messages; a queue that does not exist is no error.

        Raises: TransportUnavailable.
        """
        ...

    async def depth(self, queue: str) -> int:
        """Returns how many messages are ready in `queue`; 0 if there is no such queue.

        Raises: TransportUnavailable.
        """
        ...

    @property
    def healthy(self) -> bool:
        """Whether it is connected and not blocked."""
        ...

    @property
    def description(self) -> str:
        """The broker and its version, for people: "RabbitMQ 3.10.8"."""
        ...

    @property
    def retries(self) -> str:
        """How a message waits for a later try, and why in this way, for people."""
        return LADDER
