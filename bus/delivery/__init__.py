"""What a worker process does with the queues of its subscriptions.

consumer             what a worker expects of each queue's consumer, and how they start
handler_consumer     queues whose handlers have side effects
projection_consumer  a projection's queue
projection_runner    runs one projection: builds, consumes, sweeps, moves readers
foreign_events       stores other services' events before anybody applies them
again                messages that are delivered again
trust                which of the service's own events are really in its log
replies              answers a command whose requester waits
drain                turns what RabbitMQ gave up into dead letters
sentinel             compares the consumers with what the broker reports
duties               all of this, as duties of a worker
"""
