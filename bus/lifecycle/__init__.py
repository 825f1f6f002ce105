"""When a bus is open, and for whom.

entering      what is opened once in each event loop, however often it is entered there
forking       what was opened before a process was forked is not for its child
"""
