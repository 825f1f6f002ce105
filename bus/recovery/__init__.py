"""Brings back from the log what was lost.

republishing  sends what was published once more, to the queues of one subscription
losses        refills queues that were lost with what they held
declared      notes which queues the service once declared
recovery      repairs a database that does not continue what it held
"""
