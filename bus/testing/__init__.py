"""What users need to test their own handlers, and the contracts that implementations pass."""

from bus.testing.chaos import World, chaos
from bus.testing.clock import FastTime, HeldTime, ambient_source
from bus.testing.faults import NO_FAULTS, STEPS, Faults, Step, When
from bus.testing.given import Scenario, given, given_documents
from bus.testing.outcome import Folded, Outcome

__all__ = [
    "NO_FAULTS",
    "STEPS",
    "FastTime",
    "Faults",
    "Folded",
    "HeldTime",
    "Outcome",
    "Scenario",
    "Step",
    "When",
    "World",
    "ambient_source",
    "chaos",
    "given",
    "given_documents",
]
