"""A worker without a line of telemetry has traces as `opentelemetry-instrument` starts it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bus import Settings
from tests.end_to_end.processes import ROOT, WorkerProcess
from tests.service.wallet import Diary, Pay, build
from tests.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"
ENTRY_POINT = """[opentelemetry_instrumentor]
doubledecker = bus.telemetry.instrumentor:BusInstrumentor
"""


class TracedWorker(WorkerProcess):
    """Writes its spans to its log, as JSON over several lines."""

    def __init__(self, settings: Settings, service: str, folder: Path, **more: str) -> None:
        super().__init__(settings, service, folder / "worker.log")
        start = Path(sys.executable).with_name("opentelemetry-instrument")
        self._command = (str(start), *self._command)
        self._environment |= {
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "PYTHONPATH": f"{folder}:{ROOT}",
            **more,
        }

    def spans(self) -> Iterator[dict[str, Any]]:
        lines: list[str] = []
        for line in self.log().splitlines():
            if line == "{":
                lines = []
            lines.append(line)
            if line == "}":
                yield json.loads("\n".join(lines))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans() if span["name"] == name]


def installed(folder: Path) -> None:
    """Has a distribution in the folder name our entry point, as setup.cfg does once installed."""
    named = folder / "doubledecker_of_a_test-1.dist-info"
    named.mkdir()
    (named / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: doubledecker-of-a-test\nVersion: 1\n"
    )
    (named / "entry_points.txt").write_text(ENTRY_POINT)


async def test_spans_of_a_worker_that_is_started_by_it_are_in_the_trace_of_who_sent(
    real_settings: Settings, unique: str, tmp_path: Path
) -> None:
    installed(tmp_path)
    worker = TracedWorker(real_settings, unique, tmp_path)
    async with build(real_settings, Diary(), unique) as bus, worker:
        await worker.ready()
        await bus.send(Pay(wallet_id="a", amount=1), headers={"traceparent": SAMPLED})
        await until(lambda: worker.named("project wallets"), "it is projected", within=60)
        await until(lambda: worker.named(f"ack {unique}.thanking"), "it is handled")
        worker.terminate()
        await worker.ended(within=30)
    process = worker.named(f"process {unique}.commands")[0]
    assert process["kind"] == "SpanKind.CONSUMER"
    assert process["parent_id"] == "0xb7ad6b7169203331"
    ours = {span["name"] for span in worker.spans() if span["context"]["trace_id"] == f"0x{TRACE}"}
    assert ours >= {
        f"receive {unique}.commands",
        f"process {unique}.commands",
        f"store {unique}",
        f"ack {unique}.commands",
        f"send {unique}.events:wallet.Paid",
        f"process {unique}.thanking",
        "project wallets",
    }
    lines = [json.loads(line) for line in worker.log().splitlines() if line.startswith('{"')]
    assert not [line for line in lines if line["level"] in ("warning", "error")]


async def test_a_worker_whose_telemetry_is_switched_off_has_no_spans(
    real_settings: Settings, unique: str, tmp_path: Path
) -> None:
    installed(tmp_path)
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "doubledecker,pymongo"}
    worker = TracedWorker(real_settings, unique, tmp_path, **off)
    async with build(real_settings, Diary(), unique) as bus, worker:
        await worker.ready()
        await bus.request(Pay(wallet_id="a", amount=1), headers={"traceparent": SAMPLED})
        worker.terminate()
        await worker.ended(within=30)
    assert [span["name"] for span in worker.spans()] == []
