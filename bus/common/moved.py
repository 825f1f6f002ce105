"""Moved: modules by their former names, which can be imported for one version more."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
        "delivery.lanes": "tasks",
        "figures": "figures",
        "fingerprint": "fingerprint",
        "judging": "exceptions",
        "read.batches": "batches",
        "signatures": "signatures",
        "tasks": "tasks",
        "urls": "urls",
        "write.functions": "calls",
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
    "lifecycle": {
        "delivery.loop_watch": "loop_watch",
        "delivery.roster": "duty",
        "entering": "entering",
        "forking": "forking",
    },
    "observe": {
        "delivery.health_server": "health_server",
        "health": "health",
        "lines": "lines",
        "log": "log",
        "loops": "loops",
        "telling": "log_line",
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
    "stores": {"read.notes": "control", "stores.letters": "deadletters"},
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
    "stores.together": {
        "stores.mongo.appender": "appender",
        "stores.mongo.grouping": "groups",
        "stores.mongo.shared_reads": "shared_reads",
    },
    "stores.mongo": {
        "stores.mongo.read_store": "collections",
        "stores.mongo.letters": "deadletters",
        "stores.mongo.looking": "log_queries",
    },
    "testing.contracts": {
        "testing.event_log_contract": "event_log_contract",
        "testing.followed_log_contract": "followed_log_contract",
        "testing.projection_contract": "projection_contract",
        "testing.transport_contract": "transport_contract",
    },
    "testing.contracts.documents": {
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
    "transports.rabbitmq": {
        "transports.rabbitmq.arriving": "frame_reader",
        "transports.rabbitmq.confirming": "publish_channel",
        "transports.rabbitmq.tap": "frame_reader",
        "transports.rabbitmq.wire": "frames",
    },
}
"""The modules of each room, by their former names."""
PARTED = {
    "contracts": ("describe.contracts", "describe.comparing"),
    "stores.base": (
        "stores.event_log",
        "stores.collections",
        "data.payload",
        "stores.control",
    ),
    "testing.read_store_contract": (
        "testing.contracts.collections_contract",
        "testing.contracts.documents.documents_contract",
        "testing.contracts.control_contract",
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
    "bus.assembly.runtime": {"HasParts": "HasRuntime", "Parts": "Runtime"},
    "bus.codec": {"MOST_REASONS": "bus.messages.MOST_REASONS"},
    "bus.declare.router": {"name_of": "bus.common.signatures.name_of"},
    "bus.delivery.foreign_events": {"Keeping": "ForeignEvents"},
    "bus.delivery.handler_consumer": {"Outcome": "Handled"},
    "bus.delivery.projection_runner": {"Feeding": "CollectionFeed", "Keeper": "ProjectionRunner"},
    "bus.describe.comparing": {"Finding": "ContractFinding"},
    "bus.describe.schemas": {"Difference": "Mismatch"},
    "bus.dispatch.middleware": {"Following": "Next"},
    "bus.following.monitor": {"Following": "HistoryMonitor"},
    "bus.messages": {
        "category_of": "bus.data.ids.category_of",
        "check_id": "bus.data.limits.check_id",
        "key_of": "bus.data.ids.key_of",
        "registry_of": "bus.declare.registry.registry_of",
    },
    "bus.lifecycle.duty": {"Roster": "Supervisor"},
    "bus.observe.health": {
        "LATE": "bus.continuity.checks.LATE",
        "LOOK_AT": "bus.continuity.checks.LOOK_AT",
        "NOBODY": "bus.continuity.checks.NOBODY",
        "Problem": "HealthProblem",
        "service_checks": "bus.continuity.checks.service_checks",
    },
    "bus.operate.conversation": {"Traced": "TraceEntry"},
    "bus.operate.deadletters": {"Outcome": "RepairResult"},
    "bus.read.projection": {
        "AnyEvent": "bus.codec.data.AnyEvent",
        "View": "bus.read.documents.View",
    },
    "bus.rebuild.audit": {"Part": "Selection"},
    "bus.rebuild.pause": {"held": "paused"},
    "bus.rebuild.switch": {"Flip": "Switch"},
    "bus.stores.collections": {"Documents": "StoredDocuments"},
    "bus.stores.event_log": {"Tally": "EventCount"},
    "bus.stores.memory.documents": {"Conflict": "MemoryConflict"},
    "bus.stores.mongo.log_queries": {"Looking": "LogQueries"},
    "bus.transports.rabbitmq.frame_reader": {
        "Arriving": "DeliveryReader",
        "Sink": "FrameHandler",
        "Tap": "FrameReader",
        "TapFactory": "FrameReaderFactory",
    },
    "bus.transports.rabbitmq.publish_channel": {"Confirming": "PublishChannel"},
}
"""What a module's names were called before, with the module where they are now in another one."""


class Package(ModuleType):
    """A package with a public name that one of its modules had, too: the name stays what it is."""

    def __setattr__(self, name: str, value: object) -> None:
        """As always, but for a module that was just found by its former name."""
        if f"{self.__name__}.{name}" not in FORMER or name not in vars(self):
            super().__setattr__(name, value)


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
        package = sys.modules[module.__name__.rpartition(".")[0]]
        if module.__name__.rpartition(".")[2] in vars(package):
            package.__class__ = Package
        found = [importlib.import_module(name) for name in now]
        for one in found:
            for former in RENAMED.get(one.__name__, {}):
                setattr(one, former, present(one.__name__, former))
        if len(found) == 1:
            sys.modules[module.__name__] = found[0]
        else:
            for one in found:
                vars(module).update({k: v for k, v in vars(one).items() if k[:2] != "__"})


def install() -> None:
    """Makes former module names importable."""
    sys.meta_path.append(Finder())
    for module in RENAMED.keys() & sys.modules.keys():
        vars(sys.modules[module])["__getattr__"] = partial(renamed, module)


def renamed(module: str, former: str) -> object:
    """Returns what a module calls differently now, with a warning. Raises: AttributeError."""
    name = RENAMED[module].get(former)
    if name is None:
        raise AttributeError(f"module {module!r} has no attribute {former!r}")
    warnings.warn(
        f"{module}.{former} is {name if '.' in name else f'{module}.{name}'} now; the former name "
        f"goes with the next version",
        DeprecationWarning,
        stacklevel=2,
    )
    return present(module, former)


def present(module: str, former: str) -> object:
    """What a former name of a module stands for."""
    elsewhere, _, name = RENAMED[module][former].rpartition(".")
    return getattr(importlib.import_module(elsewhere or module), name)


class FormerReadStore:
    """Collections and control as the one object that they were."""

    def __init__(self, *places: object) -> None:
        warnings.warn(
            "read_store is collections and control now; the former name goes with the next version",
            DeprecationWarning,
            stacklevel=3,
        )
        self._places = places

    def __getattr__(self, name: str) -> Any:
        for place in self._places:
            if hasattr(place, name):
                return getattr(place, name)
        raise AttributeError(f"neither collections nor control has {name!r}", name=name, obj=self)
