"""What a process says of itself: what happens, lines of its log, and its health.

signals       a small record for each thing that happens
logged        which of them are lines of the log, at which level
listeners     who is called with which of them
log           who is speaking, about which message; never a payload
telling       one line, whatever the program's own processors do with it
lines         how lines leave the process
loops         what goes on for as long as the process does, and says when it fails
health        whether a process is alive and ready, and what is wrong with its parts
health_server answers /livez and /readyz
loop_watch    tells of handlers that block the event loop
"""
