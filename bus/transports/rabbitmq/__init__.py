"""RabbitMQ as the bus's transport: the only package that knows AMQP."""

from bus.transports.rabbitmq.transport import RabbitTransport

__all__ = ["RabbitTransport"]
