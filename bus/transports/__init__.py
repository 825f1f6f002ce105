"""How messages travel: what is asked of a transport, and what all of them share.

    base          frames, deliveries, what a transport owes the bus
    topology      which queues there are and what they are bound to, derived from the bus
    bindings, buffer, replies

`memory/` and `rabbitmq/` are the transports themselves; what knows AMQP stays in the latter.
"""
