"""Doubledecker: an async message bus for Python services, with the write side on one deck and the
read side on the other."""

from bus.bus import Bus
from bus.contracts import Finding, compare_contracts, contracts_of
from bus.delivery.events import Events, StoredEvent
from bus.delivery.letters import DeadLetter, DeadLetterGroup
from bus.delivery.projections import CollectionStatus, Projections
from bus.delivery.recovery import Recovery
from bus.delivery.repair import DeadLetters, Outcome
from bus.delivery.republishing import Republished
from bus.delivery.tracing import Traced
from bus.delivery.worker import Worker
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
from bus.health import Health, Problem
from bus.messages import Command, Envelope, Event, Fault, Query, Receipt
from bus.middleware import Following, Middleware, timeout
from bus.policies import GIVE_UP, RetryPolicy
from bus.read.documents import Documents
from bus.read.projection import Delete, Projection, Update
from bus.router import Router
from bus.settings import Settings
from bus.stores.collections import Index
from bus.stores.event_log import Tally
from bus.stores.session import Session
from bus.version import __version__
from bus.write.aggregate import Aggregate
from bus.write.repository import Repository
from bus.write.unit_of_work import Outbox

__all__ = [
    "GIVE_UP",
    "Aggregate",
    "AggregateNotFound",
    "Bus",
    "BusError",
    "CollectionStatus",
    "Command",
    "ConcurrencyError",
    "ConfigurationError",
    "DeadLetter",
    "DeadLetterError",
    "DeadLetterGroup",
    "DeadLetters",
    "Delete",
    "Discontinued",
    "Documents",
    "Envelope",
    "Event",
    "Events",
    "Fault",
    "Finding",
    "Following",
    "Health",
    "IdConflict",
    "Index",
    "InvalidMessage",
    "MessageError",
    "Middleware",
    "NewerMessage",
    "NoHandler",
    "NotAllowed",
    "NotBuilt",
    "NotCaughtUp",
    "Outbox",
    "Outcome",
    "OutcomeUnknown",
    "Problem",
    "Projection",
    "ProjectionError",
    "Projections",
    "Query",
    "Receipt",
    "Recovery",
    "Reject",
    "RemoteError",
    "Repository",
    "Republished",
    "ResultUnreadable",
    "Retry",
    "RetryPolicy",
    "Router",
    "Session",
    "Settings",
    "StoreUnavailable",
    "StoredEvent",
    "Tally",
    "TopologyMismatch",
    "Traced",
    "TransportUnavailable",
    "Unavailable",
    "UnknownMessage",
    "Unroutable",
    "Update",
    "Worker",
    "__version__",
    "compare_contracts",
    "contracts_of",
    "timeout",
]
