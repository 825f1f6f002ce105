"""Checks that what the service stands on is still what it was; every process does so.

continuity    detects that the database does not go on from what it held
checks        what every process of a service asks about its own health
owner         one service to a database
upkeep        declares the service's queues again, once in a while
"""
