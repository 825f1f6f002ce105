"""When a bus is open, and where; what a worker does for as long as it runs.

entering      opens something once in each event loop, however often it is entered there
forking       keeps a forked child from using what its parent opened
duty          something that a worker does for as long as it runs, and how it ends
loop_watch    reports handlers that block the event loop
"""
