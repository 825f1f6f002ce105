"""What a worker process does with the queues of its subscriptions.

consumer             what a worker expects of each queue's consumer, and how they begin
handler_consumer     queues whose handlers have side effects
projection_consumer  a projection's queue
projection_runner    looks after one projection: builds, consumes, sweeps, moves readers
foreign_events       other services' events are stored before anybody applies them
again                deliveries that come again
trust                which of the service's own events are what its log holds
replies              what becomes of a command whose requester waits
drain                what RabbitMQ itself gave up becomes a dead letter
sentinel             compares the consumers with what the broker reports
duties               what of all this a worker does
"""
