"""The faults: one function each, by what they break; this is the list of them."""

from collections.abc import Mapping

from tools.soak.faults import broker, database, log, messages, processes, restore, sql, wires
from tools.soak.faults import sinks as elsewhere
from tools.soak.faults.base import Kind
from tools.soak.log import MONGODB, SQL
from tools.soak.sinks.plan import KAFKA, SINKS

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("wire_cut", wires.wire_cut, weight=150, within=1, wires="broker"),
        Kind("half_open", wires.half_open, weight=0.3, within=22, wires="broker"),
        Kind("store_wire_cut", wires.store_wire_cut, weight=50, within=2, wires="store"),
        Kind("store_half_open", wires.store_half_open, weight=0.3, within=12, wires="store"),
        Kind("consumer_kill", processes.consumer_kill, weight=30, within=2),
        Kind("sigterm", processes.sigterm, weight=5, within=2),
        Kind("relay_kill", processes.relay_kill, weight=5, within=2),
        Kind("client_kill", processes.client_kill, weight=4, within=10),
        Kind("broker_kill", broker.broker_kill, weight=3, within=2),
        Kind("broker_stop", broker.broker_stop, weight=1, within=2),
        Kind("broker_freeze", broker.broker_freeze, weight=2, within=2),
        Kind("alarm", broker.alarm, weight=2, within=2),
        Kind("connections_closed", broker.connections_closed, weight=5, within=1),
        Kind("broker_emptied", broker.broker_emptied, weight=2, within=20),
        Kind("exchange_deleted", broker.exchange_deleted, weight=2, within=20),
        Kind("handlers_queue_deleted", broker.handlers_queue_deleted, weight=2, within=2),
        Kind("handlers_queue_purged", broker.handlers_queue_purged, weight=1, within=2),
        Kind("password_rotated", broker.password_rotated, weight=2, within=5),
        Kind("rights_revoked", broker.rights_revoked, weight=2, within=5),
        Kind("writes_blocked", database.writes_blocked, weight=3, within=5),
        Kind("locked_for_backup", database.locked_for_backup, weight=3, within=5),
        Kind(
            "store_password_rotated",
            database.store_password_rotated,
            weight=2,
            within=5,
            wires="store",
        ),
        Kind("store_rights_revoked", database.store_rights_revoked, weight=2, within=5),
        Kind("restore", restore.restore, weight=3, within=20, most=2, logs=[MONGODB], alone=True),
        Kind("other_release", processes.other_release, weight=3, within=2),
        Kind("queue_deleted", broker.queue_deleted, weight=3, within=2),
        Kind("poison", messages.poison, weight=5, within=2),
        Kind("duplicate", messages.duplicate, weight=5, within=2),
        Kind("log_kill", log.log_kill, weight=5, within=5),
        Kind("log_stop", log.log_stop, weight=2, within=5),
        Kind("log_freeze", log.log_freeze, weight=3, within=5),
        Kind("log_slow", log.log_slow, weight=3, within=5, wires="log"),
        Kind("log_wire_cut", wires.log_wire_cut, weight=50, within=2, wires="log", logs=SQL),
        Kind("log_half_open", wires.log_half_open, weight=0.3, within=12, wires="log", logs=SQL),
        Kind("log_connections_ended", sql.log_connections_ended, weight=5, within=2, logs=SQL),
        Kind("log_read_only", sql.log_read_only, weight=3, within=5, logs=SQL),
        Kind("log_locked", sql.log_locked, weight=3, within=5, logs=SQL),
        Kind("log_password_rotated", sql.log_password_rotated, weight=2, within=5, logs=SQL),
        Kind("log_full", sql.log_full, weight=3, within=10, logs=SQL, disk=True),
        Kind("worker_frozen", elsewhere.worker_frozen, weight=20, within=10, sinks=SINKS),
        Kind("sink_wire_cut", elsewhere.sink_wire_cut, weight=100, within=5, sinks=SINKS),
        Kind("sink_half_open", elsewhere.sink_half_open, weight=5, within=40, sinks=SINKS),
        Kind("sink_kill", elsewhere.sink_kill, weight=20, within=15, sinks=SINKS),
        Kind("sink_stop", elsewhere.sink_stop, weight=10, within=15, sinks=SINKS),
        Kind("sink_freeze", elsewhere.sink_freeze, weight=20, within=15, sinks=SINKS),
        Kind("sink_slow", elsewhere.sink_slow, weight=15, within=10, sinks=SINKS),
        Kind("sink_refuses", elsewhere.sink_refuses, weight=20, within=10, sinks=SINKS),
        Kind("sink_emptied", elsewhere.sink_emptied, weight=8, within=30, most=5, sinks=SINKS),
        Kind("fed_kill", elsewhere.fed_kill, weight=20, within=20, sinks=[KAFKA]),
        Kind("fed_frozen", elsewhere.fed_frozen, weight=8, within=20, sinks=[KAFKA]),
        Kind("leader_kill", broker.leader_kill, weight=10, within=5, nodes=3),
        Kind("majority_lost", broker.majority_lost, weight=2, within=2, nodes=3),
        Kind("primary_kill", database.primary_kill, weight=20, within=2, members=3),
        Kind("primary_freeze", database.primary_freeze, weight=5, within=5, members=3),
        Kind("step_down", database.step_down, weight=10, within=2, members=3),
    )
}

__all__ = ["KINDS", "Kind"]
