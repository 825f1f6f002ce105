"""What a service needs at RabbitMQ against what is there: the model behind `bus topology`.

plan     the difference, line by line
apply    makes what is missing, and moves what differs
prune    removes what nobody declares
"""
