"""What users need to test their own handlers, and the contracts that implementations pass."""

from bus.testing.chaos import World, chaos
from bus.testing.clock import FastTime, HeldTime, ambient_source
from bus.testing.faults import NO_FAULTS, STEPS, Faults, Step, When

__all__ = [
    "NO_FAULTS",
    "STEPS",
    "FastTime",
    "Faults",
    "HeldTime",
    "Step",
    "When",
    "World",
    "ambient_source",
    "chaos",
]
