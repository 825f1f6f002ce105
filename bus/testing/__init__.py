"""What users need to test their own handlers, and the contracts that implementations pass.

given         given, when, then, for handlers, aggregates and projections as plain functions
outcome, comparing   what came of a message, against what was expected
written       what event handlers wrote by their `Session`
listed        what a service's packages declare, and no bus lists
clock         time, ids and chance in a test's hands
real          a RabbitMQ and a MongoDB for one test, and nothing that is left there
plugin        pytest's fixtures by their former name

`simulation/` runs whole services in memory while everything goes wrong; `contracts/` is what
implementations of the seams promise.
"""

from bus.testing.clock import FastTime, HeldTime, ambient_source
from bus.testing.given import Scenario, given, given_documents
from bus.testing.listed import not_listed
from bus.testing.outcome import Folded, Outcome
from bus.testing.simulation.chaos import chaos, memory_world
from bus.testing.simulation.faults import NO_FAULTS, STEPS, Faults, Step, When
from bus.testing.simulation.ground import built, shared_memory
from bus.testing.simulation.world import Service, World
from bus.testing.written import written

__all__ = [
    "NO_FAULTS",
    "STEPS",
    "FastTime",
    "Faults",
    "Folded",
    "HeldTime",
    "Outcome",
    "Scenario",
    "Service",
    "Step",
    "When",
    "World",
    "ambient_source",
    "built",
    "chaos",
    "given",
    "given_documents",
    "memory_world",
    "not_listed",
    "shared_memory",
    "written",
]
