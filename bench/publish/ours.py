"""Our side: the transport beneath the bus, one call for each message, every frame an event's."""

from datetime import UTC, datetime

from bench import side
from bench.clock import Clock
from bench.queues import AMQP_URL, BINDING, body_of, expect
from bus.observe.log import configure_default
from bus.transports.base import Frame
from bus.transports.rabbitmq import RabbitTransport
from bus.transports.topology import Queue, Topology, event_topic

WARM_UP = 2000


def frame_of(number: int) -> Frame:
    """As a commit's event is framed."""
    stream, command = f"account-a{number}", f"c{number}"
    return Frame(
        address="events",
        topic=event_topic("account", "AccountOpened", stream),
        id=f"{command}:1",
        name="AccountOpened",
        body=body_of(number),
        time=datetime.now(UTC),
        correlation_id=command,
        headers={"stream": stream, "version": 1, "schema": 1, "causation_id": command},
    )


async def measure(arguments: side.Arguments) -> side.Metrics:
    service, count, concurrent = (arguments[key] for key in ("service", "count", "concurrent"))
    queue = Queue(f"{service}.accounts", "events", (BINDING,))
    transport = RabbitTransport([AMQP_URL], service=service)

    async def publish(number: int) -> None:
        failures = await transport.publish([frame_of(number)], must_route=True)
        for failure in failures.values():
            raise failure

    configure_default()
    await transport.open()
    try:
        await transport.declare(Topology(service, (queue,)))
        await side.concurrently(WARM_UP, concurrent, publish)
        with Clock() as clock:
            await side.concurrently(count, concurrent, publish)
    finally:
        await transport.close()
    await expect(queue.name, WARM_UP + count)
    return clock.metrics(count)


if __name__ == "__main__":
    side.run(measure)
