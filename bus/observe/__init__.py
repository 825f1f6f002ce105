"""What a process says of itself: lines of its log, and its health.

log           who is speaking, about which message; never a payload
telling       one line, whatever the program's own processors do with it
lines         how lines leave the process
loops         what goes on for as long as the process does, and says when it fails
health        whether a process is alive and ready, and what is wrong with its parts
health_server answers /livez and /readyz
loop_watch    tells of handlers that block the event loop
"""
