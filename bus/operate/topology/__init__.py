"""What a service needs at RabbitMQ against what is there: the model behind `bus topology`.

plan     the difference, line by line
apply    makes what is missing, and moves what differs
rename   brings what a renamed subscription has to its new name
prune    removes what nobody declares
"""
