"""The report: what happened, a few documents as a person would read them, where to look next."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tools.demo.fold import BOOKINGS, COLLECTIONS, COUNTS, RECORDS, SEARCHED, STATES, Document
from tools.demo.fold import TABLES as ROWS
from tools.demo.processes import Counted
from tools.demo.stores import KAFKA, SEARCH, TABLES
from tools.demo.tally import Tally, percentile
from tools.demo.verify import Checked

NEXT = (
    ("write_models/jobs.py", "what a job decides, in plain Python"),
    ("handlers/rooms_in_sql.py", "how rows of one's own are one transaction with events"),
    ("handlers/closing.py", "how two processes close late applications without a lock"),
    ("read_models/job_board.py", "how two streams of events feed one document"),
    ("read_models/stores.py", "which other stores read models may be in"),
    ("bin/test", "runs the tests, those that break brokers and databases included"),
)


class Kept(NamedTuple):
    """What a store holds: `name` and `what` are for people, `figure` for programs."""

    store: str
    figure: str
    name: str
    what: str
    collections: tuple[str, ...]


KEPT = (
    Kept(TABLES, "rows", "tables", "rows for analysts", ROWS),
    Kept(SEARCH, "searched", "search", "documents to be searched", (SEARCHED,)),
    Kept(KAFKA, "records", "Kafka", "records of events", (RECORDS,)),
    Kept(KAFKA, "counts", "third service", "days counted from Kafka", (COUNTS,)),
)


class Places(NamedTuple):
    """Which broker and databases it ran on, and who put them there; `log_server` is for people."""

    broker: str
    broker_version: str
    broker_origin: str
    mongo_version: str
    mongo_origin: str
    log: str
    log_server: str
    log_origin: str

    @property
    def own(self) -> str:
        """What the service writes of its own, beside the log."""
        return "document" if self.log == "mongodb" else "row"


class Report(NamedTuple):
    """All that there is to tell of one run."""

    places: Places
    tally: Tally
    checked: Checked
    counted: Counted
    worker_kills: int
    seconds: float
    logs: Path
    stores: Mapping[str, str] = {}
    """The other stores that were asked for, and where each is."""
    broken: Sequence[str] = ()
    """What was killed and cut besides workers."""
    repeated: int = 0
    """Records of Kafka's that came again, which readers tell by id and version."""

    @property
    def lost(self) -> list[str]:
        """Streams of which a receipt told more than the log holds."""
        versions = self.checked.folded.versions
        return [s for s, version in self.tally.reached.items() if versions.get(s, 0) < version]

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong, in words; empty where nothing is."""
        found = [*self.checked.unsettled, *self.tally.unexpected, *self.checked.folded.gaps]
        found += [f"{stream}: acknowledged, and not in the log" for stream in self.lost]
        if self.checked.given_up:
            found.append(f"{self.checked.given_up} messages are dead letters")
        found += [
            f"{one.collection} {one.key}: {one.field} is {one.stored!r}, and the log says "
            f"{one.expected!r}"
            for one in self.checked.differences
        ]
        return found

    def figures(self) -> dict[str, Any]:
        """The figures by name, for programs."""
        tally, checked = self.tally, self.checked
        return {
            "broker": self.places.broker,
            "broker_version": self.places.broker_version,
            "mongo_version": self.places.mongo_version,
            "log": self.places.log,
            "log_server": self.places.log_server,
            "commands": tally.commands,
            "refused": tally.refused.total(),
            "refusals": dict(sorted(tally.refused.items())),
            "repeated": tally.repeated,
            "tried_again": tally.tried_again,
            "unexpected": len(tally.unexpected),
            "events": checked.folded.events,
            "documents": checked.count(*COLLECTIONS),
            "wrong_documents": checked.wrong(*COLLECTIONS),
            "states": checked.count(STATES),
            "wrong_states": checked.wrong(STATES),
            "bookings": checked.count(BOOKINGS),
            "wrong_bookings": checked.wrong(BOOKINGS),
            **self._elsewhere(),
            "repeated_records": self.repeated,
            "stores": dict(self.stores),
            "broken": list(self.broken),
            "lost_commands": len(self.lost),
            "dead_letters": checked.given_up,
            "unsettled": list(checked.unsettled),
            "duplicates": self.counted.duplicates,
            "healed": self.counted.healed,
            "worker_kills": self.worker_kills,
            "p50_ms": round(percentile(tally.latencies, 50) * 1000, 1),
            "p99_ms": round(percentile(tally.latencies, 99) * 1000, 1),
            "commands_per_second": round(tally.per_second),
            "seconds": round(self.seconds, 1),
        }

    def _elsewhere(self) -> dict[str, int]:
        checked = self.checked
        counts = {kept.figure: checked.count(*kept.collections) for kept in KEPT}
        wrong = {f"wrong_{kept.figure}": checked.wrong(*kept.collections) for kept in KEPT}
        return counts | wrong


def print_json(report: Report) -> None:
    print(json.dumps(report.figures()))


def print_report(report: Report, console: Console) -> None:
    """The report for people."""
    console.print()
    console.print(_table(report))
    _print_samples(report, console)
    _print_verdict(report, console)


def _table(report: Report) -> Table:
    figures, places, tally = report.figures(), report.places, report.tally
    refusals = ", ".join(f"{name} {count}" for name, count in tally.refused.most_common())
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rows = {
        "broker": f"{places.broker_version} ({places.broker_origin})",
        "database": f"MongoDB {places.mongo_version} ({places.mongo_origin})",
        "event log": f"{places.log_server} ({places.log_origin})",
        "commands": f"{tally.commands:,}, of which {tally.refused.total():,} refused as they should"
        f" be ({refusals}) and {tally.repeated:,} sent twice",
        "events": f"{figures['events']:,}",
        "documents": f"{figures['documents']:,}, every one compared with the log",
        "states": f"{figures['states']:,} of interviews, every one compared with its stream",
        f"own {places.own}s": f"{figures['bookings']:,} rooms booked, every one compared with the "
        "log",
        **_elsewhere(report),
        "wrong": _wrong(report),
        "workers killed": f"{report.worker_kills}",
        **({"broken besides": "; ".join(report.broken)} if report.broken else {}),
        "duplicates seen": f"{report.counted.duplicates:,} deliveries that came again, and "
        f"{report.counted.healed:,} events read from the log",
        "command → visible": f"median {figures['p50_ms']} ms, "
        f"99th percentile {figures['p99_ms']} ms",
        "speed": f"{figures['commands_per_second']:,} commands per second",
        "time": f"{report.seconds:.1f} s in all",
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), value)
    return table


def _elsewhere(report: Report) -> dict[str, str]:
    """What is in other stores; those that come again in Kafka are no fault."""
    figures = report.figures()
    found = {
        kept.name: f"{figures[kept.figure]:,} {kept.what}, every one compared with the log: "
        f"{report.stores[kept.store]}"
        for kept in KEPT
        if kept.store in report.stores
    }
    if KAFKA in report.stores:
        found["sent twice"] = f"{report.repeated:,} records, told by their ids and versions"
    return found


def _wrong(report: Report) -> str:
    figures = report.figures()
    others = {kept.figure: kept.what for kept in KEPT if kept.store in report.stores}
    named = {**{name: name for name in ("documents", "states", "bookings")}, **others}
    return ", ".join(f"{figures[f'wrong_{name}']:,} {what}" for name, what in named.items())


def _print_samples(report: Report, console: Console) -> None:
    stored = report.checked.stored
    board = stored["job_board"]
    if not board:
        return
    job = max(board.values(), key=lambda one: (one.get("version", 0), one.get("applications", 0)))
    mine = [one for one in stored["applications_by_job"].values() if one["job_id"] == job["_id"]]
    closed = [one for one in stored["applicant_history"].values() if one["status"] == "closed"]
    booked = next(iter(stored[BOOKINGS]), "")
    own = report.places.own
    samples = {
        "job_board: what people browse": [job],
        "applications_by_job: what the administrator reads of it": mine[:1],
        "applicant_history: what an applicant was told": closed[:1],
        "an interview, by its state": _one(stored[STATES], booked),
        f"the room booked for it: a {own} of the service's own": _one(stored[BOOKINGS], booked),
    }
    console.print()
    for title, documents in samples.items():
        if documents:
            parts = [_document(document) for document in documents]
            console.print(Panel(Group(*parts), title=title, title_align="left", expand=False))


def _one(documents: Mapping[str, Document], key: str) -> list[Document]:
    return [documents[key]] if key in documents else []


def _document(document: Document) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in document.items():
        if name == "_id" or not name.startswith("_"):
            table.add_row(Text(name, style="dim"), Text(_plain(value)))
    return table


def _plain(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)


def _print_verdict(report: Report, console: Console) -> None:
    problems = report.problems
    console.print()
    if problems:
        console.print(f"{len(problems)} things are wrong:", style="bold red")
        for problem in problems[:10]:
            console.print(f"  {problem}", markup=False, highlight=False)
        console.print(f"The logs of its processes are in {report.logs}", highlight=False)
        return
    console.print("Nothing is wrong: every document equals the fold of the log.", style="green")
    console.print("\nWhere to look next:")
    _print_pairs(dict(NEXT), console)


def _print_pairs(pairs: Mapping[str, str], console: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in pairs.items():
        table.add_row(Text(name, style="bold"), value)
    console.print(table)
