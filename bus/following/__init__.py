"""One service tells another one its history.

protocol      what travels between the two
sender        tells it, from its own log, to the queue of who asked
receiver      takes it in, and notes how far that is
monitor       sees to it that nothing is missing here
duties        what of this a worker does
"""
