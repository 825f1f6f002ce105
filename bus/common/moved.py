"""Moved: modules by their former names, which can be imported for one version more."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ROOMS = {
    "": {"delivery.worker": "worker"},
    "assembly": {
        "arguments": "arguments",
        "backend": "backend",
        "declarations": "declarations",
        "parts": "runtime",
        "served": "served",
    },
    "common": {
        "ambient": "clock",
        "calls": "calls",
        "delivery.lanes": "lanes",
        "figures": "figures",
        "fingerprint": "fingerprint",
        "judging": "exceptions",
        "read.batches": "batches",
        "signatures": "signatures",
        "tasks": "tasks",
        "urls": "urls",
    },
    "continuity": {"checks": "checks", "delivery.upkeep": "upkeep", "read.owner": "owner"},
    "data": {
        "classes": "classes",
        "declarable": "fields",
        "limits": "limits",
        "payload": "payload",
        "round_trip": "round_trip",
        "unwritten": "unwritten",
    },
    "declare": {"policies": "policies", "registry": "registry", "router": "router"},
    "delivery": {
        "delivery.handling": "handler_consumer",
        "delivery.keeper": "projection_runner",
        "delivery.keeping": "foreign_events",
        "delivery.projecting": "projection_consumer",
        "delivery.roster": "supervisor",
    },
    "describe": {"shapes": "schemas"},
    "dispatch": {
        "dependencies": "dependencies",
        "dispatcher": "dispatcher",
        "layers": "layers",
        "middleware": "middleware",
        "results": "results",
    },
    "failures": {
        "delivery.allowance": "allowance",
        "delivery.deadletters": "deadletters",
        "delivery.faults": "give_up",
        "delivery.releases": "releases",
        "delivery.retry": "retry",
    },
    "following": {
        "delivery.asking": "protocol",
        "delivery.following": "monitor",
        "delivery.history": "receiver",
        "delivery.replaying": "sender",
    },
    "lifecycle": {"entering": "entering", "forking": "forking"},
    "observe": {
        "delivery.health_server": "health_server",
        "delivery.loop_watch": "loop_watch",
        "health": "health",
        "lines": "lines",
        "log": "log",
        "loops": "loops",
        "telling": "telling",
    },
    "operate": {
        "delivery.events": "events",
        "delivery.letters": "deadletter_view",
        "delivery.projections": "projections",
        "delivery.repair": "deadletters",
        "delivery.tracing": "conversation",
    },
    "read": {"read.history": "foreign"},
    "rebuild": {
        "read.audit": "audit",
        "read.builder": "builder",
        "read.catalogue": "catalogue",
        "read.flip": "switch",
        "read.handled": "handled",
        "read.hold": "pause",
        "read.lineage": "generations",
        "read.replay": "replay",
        "read.replay_in_time": "replay_in_time",
    },
    "recovery": {
        "delivery.losses": "losses",
        "delivery.recovery": "recovery",
        "delivery.republishing": "republishing",
    },
    "stores": {"read.notes": "control"},
    "stores.documents": {
        "stores.applying": "applying",
        "stores.matching": "matching",
        "stores.order": "order",
        "stores.paths": "paths",
        "stores.updates": "updates",
        "stores.values": "values",
    },
    "stores.memory": {
        "stores.memory_changes": "changes",
        "stores.memory_documents": "documents",
        "stores.memory_effects": "effects",
        "stores.memory_engine": "engine",
        "stores.memory_letters": "deadletters",
        "stores.memory_log": "log",
        "stores.memory_mock": "mongomock",
        "stores.memory_totals": "totals",
    },
    "testing.contracts": {
        "testing.event_log_contract": "event_log_contract",
        "testing.followed_log_contract": "followed_log_contract",
        "testing.projection_contract": "projection_contract",
        "testing.read_store_contract": "read_store_contract",
        "testing.transport_contract": "transport_contract",
        "testing.values_contract": "values_contract",
        "testing.views_contract": "views_contract",
    },
    "testing.simulation": {
        "testing.broken": "broken",
        "testing.chaos": "chaos",
        "testing.faults": "faults",
        "testing.ground": "ground",
        "testing.process": "process",
        "testing.rest": "rest",
        "testing.world": "world",
    },
    "transports.memory": {"transports.memory_broker": "broker"},
}
"""What stands in each room of the package, by its former name."""
PARTED = {
    "contracts": ("describe.contracts", "describe.comparing"),
    "stores.base": (
        "stores.event_log",
        "stores.collections",
        "data.payload",
        "stores.control",
        "stores.read_store",
    ),
}
"""What became several modules."""
FORMER = {
    f"bus.{former}": (f"bus.{room}.{name}".replace("..", "."),)
    for room, names in ROOMS.items()
    for former, name in names.items()
} | {f"bus.{former}": tuple(f"bus.{one}" for one in now) for former, now in PARTED.items()}

RENAMED = {
    "bus": {
        "Finding": "ContractFinding",
        "Following": "Next",
        "Outcome": "RepairResult",
        "Problem": "HealthProblem",
        "Tally": "EventCount",
        "Traced": "TraceEntry",
    },
    "bus.delivery.foreign_events": {"Keeping": "ForeignEvents"},
    "bus.delivery.projection_runner": {"Keeper": "ProjectionRunner"},
    "bus.delivery.supervisor": {"Roster": "Supervisor"},
    "bus.describe.comparing": {"Finding": "ContractFinding"},
    "bus.dispatch.middleware": {"Following": "Next"},
    "bus.observe.health": {"Problem": "HealthProblem"},
    "bus.operate.conversation": {"Traced": "TraceEntry"},
    "bus.operate.deadletters": {"Outcome": "RepairResult"},
    "bus.stores.collections": {"Documents": "StoredDocuments"},
    "bus.stores.event_log": {"Tally": "EventCount"},
}
"""What a module's names were called before."""


class Finder(MetaPathFinder, Loader):
    """Finds a module by its former name, where there is none of that name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module that was called so, or None."""
        return ModuleSpec(fullname, self) if fullname in FORMER else None

    def exec_module(self, module: ModuleType) -> None:
        """Puts the present module in its place."""
        now = FORMER[module.__name__]
        warnings.warn(
            f"{module.__name__} is {' and '.join(now)} now; the former name goes with the next "
            f"version",
            DeprecationWarning,
            stacklevel=2,
        )
        found = [importlib.import_module(name) for name in now]
        for one in found:
            for former, name in RENAMED.get(one.__name__, {}).items():
                setattr(one, former, getattr(one, name))
        if len(found) == 1:
            sys.modules[module.__name__] = found[0]
        else:
            for one in found:
                vars(module).update({k: v for k, v in vars(one).items() if k[:2] != "__"})


def install() -> None:
    """From now on former names are found."""
    sys.meta_path.append(Finder())


def renamed(module: str, former: str) -> object:
    """What a module calls otherwise now, with a warning. Raises: AttributeError."""
    name = RENAMED.get(module, {}).get(former)
    if name is None:
        raise AttributeError(f"module {module!r} has no attribute {former!r}")
    warnings.warn(
        f"{module}.{former} is {module}.{name} now; the former name goes with the next version",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(sys.modules[module], name)
