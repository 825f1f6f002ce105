"""What a process says of itself: what happens, lines of its log, and its health.

measured      what all signals have, and the signals of states, which somebody measures
signals       a small record for each thing that happens
logged        which of them are logged, at which level
tracer        who hears, besides, that something begins
listeners     calls those who listen to them, and the tracer
log           structured logging: which message a line is about; never a payload
log_line      writes one line, whatever the program's own processors do with it
lines         how lines leave the process
loops         keeps loops going as long as the process does, and reports when one fails
health        whether a process is alive and ready, and what is wrong with its parts
health_server answers /livez and /readyz, and what listeners show besides
"""
