"""What every room may use. It knows none of them: no message, no store, no broker.

clock         time, ids and chance: the one seam through which they enter
tasks         running tasks side by side, and ending them
backoff       pauses between tries
exceptions    what an error is, also if it is a group
fingerprint   which failures are the same
signatures    what a function takes and returns, whatever kind of callable it is
calls         which functions stand in an attribute, and which objects one makes for a method
figures       reading the numbers that a service sets
batches, urls
moved         the former places of modules
"""
