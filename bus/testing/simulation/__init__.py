"""Whole services in memory, with everything going wrong that a seed draws.

chaos         `memory_world` and `chaos`: what a test begins with
world         services, as their clients and operators see them
process       a service's process, which dies and is started again
ground        the broker and the stores that outlive it
faults        what goes wrong, and when
broken        a transport and stores that break
rest          whether everything has come to rest
"""
