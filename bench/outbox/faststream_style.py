"""The peer: FastStream's outbox, relayed to RabbitMQ by two decorators, as its README does it.

The relay is a process of its own. A row is deleted once it is published: nobody can read it later,
and nothing keeps an order.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from faststream import BaseMiddleware
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy.ext.asyncio import AsyncSession

from bench import side
from bench.outbox import shop
from bench.queues import AMQP_URL

QUEUE = "orders_outbox"
outbox_table = make_outbox_table(shop.Base.metadata, table_name="outbox")


class Confirms:
    """When RabbitMQ has confirmed the event of each id: the relay writes it to a file, line by
    line, and the application reads that."""

    def __init__(self, service: str) -> None:
        self._path = Path(os.environ.get("TMPDIR", "/tmp")) / f"{service}.confirms"
        self._path.touch()
        self._read = self._path.open()
        self._seen: dict[str, float] = {}

    def middleware(self) -> Any:
        lines = self._path.open("a", buffering=1)

        class Noting(BaseMiddleware):
            async def publish_scope(self, call_next: Any, cmd: Any) -> Any:
                result = await call_next(cmd)
                lines.write(json.dumps([cmd.body["order_id"], time.monotonic()]) + "\n")
                return result

        return Noting

    def __call__(self) -> dict[str, float]:
        self._seen.update(json.loads(line) for line in self._read)
        return self._seen

    def remove(self) -> None:
        self._read.close()
        self._path.unlink()


async def work(arguments: side.Arguments, **options: Any) -> None:
    """The relay."""
    own = shop.engine()
    service = arguments["service"]
    noting = [Confirms(service).middleware()]  # of what the relay publishes, too
    outbox = OutboxBroker(own, outbox_table=outbox_table, logger=None, middlewares=noting)
    rabbit = RabbitBroker(AMQP_URL, logger=None)
    exchange = RabbitExchange(f"{service}.events", type=ExchangeType.TOPIC, durable=True)
    publisher = rabbit.publisher(exchange=exchange, routing_key="order.OrderPlaced", persist=True)

    @publisher
    @outbox.subscriber(QUEUE, **options)
    async def relay(body: dict[str, Any]) -> dict[str, Any]:
        return body

    await rabbit.start()
    await outbox.start()
    await side.ready_until_stopped()
    await outbox.stop()
    await rabbit.stop()
    await own.dispose()


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, own = arguments["service"], shop.engine()
    outbox = OutboxBroker(own, outbox_table=outbox_table, logger=None)

    async def publish(session: AsyncSession, ids: list[str]) -> None:
        if len(ids) == 1:
            await outbox.publish(shop.data_of(ids[0]), queue=QUEUE, session=session)
        else:
            await outbox.publish_batch(*map(shop.data_of, ids), queue=QUEUE, session=session)

    await shop.make_tables(own)
    queue = await shop.declare(service)
    confirms = Confirms(service)
    try:
        with side.worker(arguments):
            return await shop.measure(arguments, own, publish, confirms, queue)
    finally:
        confirms.remove()
        await own.dispose()


if __name__ == "__main__":
    side.run(measure, worker=work)
