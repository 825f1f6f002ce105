"""The commands by which a service is looked at from outside of it. Each only prints.

topology   what RabbitMQ should hold and what it holds
"""
