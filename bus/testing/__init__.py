"""What users need to test their own handlers, and the contracts that implementations pass.

given         given, when, then, for handlers, aggregates and projections as plain functions
outcome, comparing   compare the outcome of a message with what was expected
written       what event handlers wrote through their `Session`
listed        what a service's packages declare but its bus does not list
clock         time, ids and randomness under a test's control
real          a RabbitMQ and a MongoDB for one test, cleaned up afterwards
plugin        the pytest plugin under its former name

`simulation/` runs whole services in memory while everything goes wrong; `contracts/` test what
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
