"""How messages travel: what the bus asks of a transport, and what all transports share.

    base          frames, deliveries, what a transport owes the bus
    topology      which queues there are and what they are bound to, derived from the bus
    feed          another service's events from elsewhere than its own exchange
    bindings, buffer, replies

`memory/` and `rabbitmq/` are the transports themselves; only the latter knows AMQP.
"""
