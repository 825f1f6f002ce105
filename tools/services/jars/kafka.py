"""A private Kafka node, broker and controller in one (KRaft), of the jars that Maven fetched."""

import base64
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tools.services.jars.fetching import Wanted
from tools.services.jars.jar_node import JarNode
from tools.services.ports import LOOPBACK
from tools.services.process import ServerProcess

# What a cluster spreads over machines is here once, and what takes memory or files is small.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A broker that crashed is taken for alive until then, and does not come back before.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.index.size.max.bytes": "1048576",
}

METADATA = 3  # a request's kind
NO_TOPICS = 0


class KafkaNode(JarNode):
    """One Kafka of our own, which makes the topics that somebody asks for.

    `advertised` is the port that it tells clients to come to, if that is not its own: a proxy's.
    `users` (name: password) may log in by SCRAM-SHA-512, if its settings ask for that.
    """

    label: ClassVar[str] = "Kafka"
    variable: ClassVar[str] = "BUS_TEST_KAFKA_URL"
    port_names: ClassVar[tuple[str, ...]] = ("port", "broker", "controller")
    wanted: ClassVar[Wanted] = Wanted("kafka", label, variable)

    advertised: int | None = None
    users: Mapping[str, str] = {}

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"

    @property
    def address(self) -> str:
        """Where clients begin, as they want to be told."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def own_address(self) -> str:
        """Where it is reached without TLS and without a name, whatever its settings ask of clients:
        for who looks after it."""
        return f"{LOOPBACK}:{self.ports['broker']}"

    # --- what a node must say of itself ------------------------------------------------------

    def _prepare(self) -> None:
        lines = [f"{name}={value}" for name, value in self._all_settings().items()]
        self._file.write_text("\n".join(lines) + "\n")
        if not (self._data / "meta.properties").exists():
            self._format()

    def _launch(self) -> ServerProcess:
        return self._run("kafka.Kafka", str(self._file))

    def _await_ready(self, deadline: float) -> None:
        # Asked at the listener of its own: that of clients may ask for TLS, or who they are.
        while not knows_brokers(self.ports["broker"]):
            self._still_starting(deadline)
            time.sleep(0.05)

    # --- within ----------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self.folder / "server.properties"

    def _all_settings(self) -> dict[str, str]:
        places = {name: f"{LOOPBACK}:{port}" for name, port in self.ports.items()}
        told = f"CLIENT://{LOOPBACK}:{self.advertised or self.port},BROKER://{places['broker']}"
        controller = f"CONTROLLER://{places['controller']}"
        return {
            **SETTINGS,
            "controller.quorum.bootstrap.servers": places["controller"],
            "listeners": f"CLIENT://{self.address},BROKER://{places['broker']},{controller}",
            "advertised.listeners": f"{told},{controller}",
            "log.dirs": str(self._data),
            **self.settings,
        }

    def _format(self) -> None:
        """Write the data of a new server."""
        words = ["format", "--standalone", "-t", new_name(), "-c", str(self._file)]
        for name, password in self.users.items():
            words += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", *words),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self._log.write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            raise self._unavailable("its data could not be made")


def new_name() -> str:
    """A name for a cluster, in Kafka's form."""
    first, *others = uuid.uuid4().bytes
    # One that began with a dash would be taken for an option.
    return base64.urlsafe_b64encode(bytes([first & 0x7F, *others])).decode().rstrip("=")


def knows_brokers(port: int, seconds: float = 5.0, *, host: str = LOOPBACK) -> bool:
    """Whether a Kafka there tells where brokers are: an open port alone proves nothing."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            connection.sendall(_request(METADATA, struct.pack(">i", NO_TOPICS)))
            return _brokers(connection.recv(12, socket.MSG_WAITALL)) > 0
    except OSError:
        return False


def _request(kind: int, body: bytes) -> bytes:
    """A request of a kind's first version, from a client without a name."""
    content = struct.pack(">hhih", kind, 0, 1, -1) + body
    return struct.pack(">i", len(content)) + content


def _brokers(answer: bytes) -> int:
    """How many brokers the beginning of an answer (its size, its number, the count) tells of."""
    return int(struct.unpack(">iii", answer)[2]) if len(answer) == 12 else 0
