"""What every room may use, and which knows none of them: no message, no store, no broker.

clock         time, ids and chance: the one seam through which they enter
tasks         how tasks of our own go side by side, and how they end
backoff       pauses between tries
exceptions    what an error is, where several came as one
fingerprint   which failures are one
signatures    what a function takes and returns, whatever kind of callable it is
calls         which objects a function makes for a method, read from its code
figures       the numbers that a service gives, taken where they have one meaning
batches, urls
moved         the former places of modules
"""
