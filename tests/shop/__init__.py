"""A shop of three services, as their authors would write them: orders, payments and shipping.

They have nothing in common but these names, RabbitMQ, and the events that they read of each other.
Nothing in them knows that anybody looks on.
"""
