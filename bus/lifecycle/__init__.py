"""When a bus is open, and for whom; what goes on in a worker.

entering      what is opened once in each event loop, however often it is entered there
forking       what was opened before a process was forked is not for its child
duty          what goes on in a worker for as long as it runs, and how it ends
"""
