"""A broker of a few queues, for tests of what is done to them, call by call."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from aiormq.exceptions import ChannelNotFoundEntity


class FakeQueue:
    """`messages` are routing keys; `bindings` pairs of an exchange and a topic."""

    def __init__(self, *messages: str, consumers: int = 0, bound: tuple[str, str] | None = None):
        self.messages = list(messages)
        self.consumers = consumers
        self.bindings = {bound} if bound else set()


class FakeBroker:
    """Is a session as well as its channels. `before` is called with the name of each call."""

    def __init__(self, **queues: FakeQueue) -> None:
        self.queues = queues
        self.calls: list[tuple[str, ...]] = []
        self.before: Callable[[str], None] = lambda call: None

    async def channel(self, *, confirms: bool) -> Any:
        return self

    def _queue(self, call: str, name: str) -> FakeQueue:
        self.before(call)
        self.calls.append((call, name))
        if name not in self.queues:
            raise ChannelNotFoundEntity(f"no queue {name}")
        return self.queues[name]

    async def queue_declare(self, name: str, **options: Any) -> Any:
        if not options.get("passive"):
            self.queues.setdefault(name, FakeQueue())
        queue = self._queue("declare", name)
        return SimpleNamespace(message_count=len(queue.messages), consumer_count=queue.consumers)

    async def queue_bind(self, name: str, exchange: str, topic: str) -> None:
        self._queue("bind", name).bindings.add((exchange, topic))

    async def queue_unbind(self, name: str, exchange: str, topic: str) -> None:
        self._queue("unbind", name).bindings.discard((exchange, topic))

    async def queue_delete(self, name: str) -> Any:
        count = len(self._queue("delete", name).messages)
        del self.queues[name]
        return SimpleNamespace(message_count=count)

    async def basic_qos(self, **options: Any) -> None: ...

    async def basic_consume(self, name: str, put: Any, **options: Any) -> None:
        queue = self._queue("consume", name)
        for number, message in enumerate(queue.messages, 1):
            await put(_delivered(message, number, name))
        queue.messages = []

    async def basic_ack(self, tag: int, **options: Any) -> None:
        self.calls.append(("ack", str(tag)))

    async def basic_cancel(self, tag: str) -> None: ...

    async def basic_publish(self, body: bytes, exchange: str, routing_key: str, **_: Any) -> None:
        """An exchange has the name of its queue."""
        self.queues[exchange or routing_key].messages.append(routing_key)

    async def close(self) -> None: ...


def _delivered(message: str, tag: int, queue: str) -> Any:
    header: Mapping[str, Any] = {"message_id": "", "headers": {}, "message_type": ""}
    properties = SimpleNamespace(**header)
    return SimpleNamespace(
        body=b"",
        delivery_tag=tag,
        exchange=queue,
        routing_key=message,
        header=SimpleNamespace(properties=properties),
    )
