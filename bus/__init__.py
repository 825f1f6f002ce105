"""Doubledecker: an async message bus for Python services, with the write side on one deck and the
read side on the other."""

from bus.assembly.backend import Backend, default_backend
from bus.bus import Bus
from bus.common import clock as clock
from bus.common import moved
from bus.declare.policies import GIVE_UP, RetryPolicy
from bus.declare.router import Router
from bus.describe.comparing import ContractFinding, compare_contracts
from bus.describe.contracts import contracts_of
from bus.dispatch.middleware import Middleware, Next, timeout
from bus.errors import (
    AggregateNotFound,
    BusError,
    ConcurrencyError,
    ConfigurationError,
    DeadLetterError,
    Discontinued,
    IdConflict,
    InvalidMessage,
    MessageError,
    NewerMessage,
    NoHandler,
    NotAllowed,
    NotBuilt,
    NotCaughtUp,
    OutcomeUnknown,
    ProjectionError,
    Reject,
    RemoteError,
    ResultUnreadable,
    Retry,
    StoreUnavailable,
    TopologyMismatch,
    TransportUnavailable,
    Unavailable,
    UnknownMessage,
    Unroutable,
)
from bus.lifecycle.duty import Duty
from bus.messages import Command, Envelope, Event, Fault, Query, Receipt
from bus.observe import log as log
from bus.observe import signals as signals
from bus.observe.health import Check, Health, HealthProblem
from bus.operate.aggregates import Aggregates, CheckedStates, StateDifference, StoredStates
from bus.operate.conversation import TraceEntry
from bus.operate.deadletter_view import DeadLetter, DeadLetterGroup
from bus.operate.deadletters import DeadLetters, RepairResult
from bus.operate.events import Events, StoredEvent
from bus.operate.projections import CollectionStatus, Projections
from bus.read.documents import Documents
from bus.read.projection import Delete, Projection, Update
from bus.recovery.recovery import Recovery
from bus.recovery.republishing import Republished
from bus.settings import Settings
from bus.stores.collections import Index
from bus.stores.event_log import EventCount
from bus.stores.session import Session
from bus.stores.sink import Increment, Remove, Sink, Upsert
from bus.telemetry import switch
from bus.version import __version__
from bus.worker import Worker
from bus.write.aggregate import Aggregate
from bus.write.repository import Repository
from bus.write.unit_of_work import Outbox

__all__ = [
    "GIVE_UP",
    "Aggregate",
    "AggregateNotFound",
    "Aggregates",
    "Backend",
    "Bus",
    "BusError",
    "Check",
    "CheckedStates",
    "CollectionStatus",
    "Command",
    "ConcurrencyError",
    "ConfigurationError",
    "ContractFinding",
    "DeadLetter",
    "DeadLetterError",
    "DeadLetterGroup",
    "DeadLetters",
    "Delete",
    "Discontinued",
    "Documents",
    "Duty",
    "Envelope",
    "Event",
    "EventCount",
    "Events",
    "Fault",
    "Health",
    "HealthProblem",
    "IdConflict",
    "Increment",
    "Index",
    "InvalidMessage",
    "MessageError",
    "Middleware",
    "NewerMessage",
    "Next",
    "NoHandler",
    "NotAllowed",
    "NotBuilt",
    "NotCaughtUp",
    "Outbox",
    "OutcomeUnknown",
    "Projection",
    "ProjectionError",
    "Projections",
    "Query",
    "Receipt",
    "Recovery",
    "Reject",
    "RemoteError",
    "Remove",
    "RepairResult",
    "Repository",
    "Republished",
    "ResultUnreadable",
    "Retry",
    "RetryPolicy",
    "Router",
    "Session",
    "Settings",
    "Sink",
    "StateDifference",
    "StoreUnavailable",
    "StoredEvent",
    "StoredStates",
    "TopologyMismatch",
    "TraceEntry",
    "TransportUnavailable",
    "Unavailable",
    "UnknownMessage",
    "Unroutable",
    "Update",
    "Upsert",
    "Worker",
    "__version__",
    "clock",
    "compare_contracts",
    "contracts_of",
    "default_backend",
    "log",
    "signals",
    "timeout",
]

moved.install()
switch.install()
