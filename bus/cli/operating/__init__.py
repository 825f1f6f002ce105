"""The commands by which a service is looked at from outside of it. Each only prints.

doctor     which promises hold on what a service stands on, and what to do where not
topology   what RabbitMQ should hold and what it holds
"""
