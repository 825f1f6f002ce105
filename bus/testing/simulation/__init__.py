"""Whole services in memory, with faults drawn from a seed.

chaos         `memory_world` and `chaos`, where a test begins
world         services, as their clients and operators see them
process       a service's process, which dies and is started again
ground        the broker and the stores that outlive it
feeds         other services' events, as a feed would bring them
faults        what goes wrong, and when
broken        a transport and stores that break
rest          whether everything has come to rest
"""
