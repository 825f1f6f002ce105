"""Whether what the service stands on is still what it was: looked at by every process.

continuity    whether the database goes on from what it held
checks        what every process of a service asks about its own health
owner         one service to a database
upkeep        what a service has at the broker is declared again, once in a while
"""
