"""RabbitMQ as the bus's transport: the only package that knows AMQP.

transport     the whole: two connections, what is declared, who consumes
connection    connecting, and staying connected
declare, declaring   what a topology needs is made; kept as it should be
planning      what should be there, what is, and the difference
publisher, publish_channel   frames of one tick in one write; one channel and its confirms
inbox         consuming one queue, and how many deliveries may be at hand
frame_reader, frames   the frames of the hot path, past the library
refusals      what to do about what RabbitMQ refuses
erasing       deletes what tests made
"""

from bus.transports.rabbitmq.transport import RabbitTransport

__all__ = ["RabbitTransport"]
