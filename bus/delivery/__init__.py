"""Delivery: what a worker process does with the queues of its subscriptions."""
