"""The fold of the log for what is kept elsewhere, in plain Python, and what differs from it."""

from collections.abc import Iterable, Mapping

from tools.soak.checker import Verdict, compare_documents
from tools.soak.log import Document
from tools.soak.sinks.plan import AMOUNTS, JOBS

Rows = Mapping[str, Document]
Place = tuple[str, int]
"""A stream and a version of it."""


class Folded:
    """The rows that the log makes, and the places of its events."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Document]] = {JOBS: {}, AMOUNTS: {}}
        self.places: set[Place] = set()

    def add(self, stream: str, version: int, event: Document) -> None:
        """Takes the events of a stream in their order."""
        self.places.add((stream, version))
        key, data, jobs = stream.partition("-")[2], event["data"], self.rows[JOBS]
        match event["name"]:
            case "JobPosted":
                jobs[key] = {"title": data["title"], "revisions": 0}
            case "JobRevised":
                jobs[key] = {"title": data["title"], "revisions": jobs[key]["revisions"] + 1}
            case "JobArchived":
                del jobs[key]
            case "MoneyCame":
                amount = data["amount"]
                row = self.rows[AMOUNTS].setdefault(str(amount), {"times": 0, "total": 0})
                row["times"] += 1
                row["total"] += amount


def fold(commits: Iterable[Document]) -> Folded:
    """Folds commits, given in the order of their streams' versions."""
    folded = Folded()
    for commit in commits:
        for number, event in enumerate(commit["events"]):
            folded.add(commit["stream"], commit["first"] + number, event)
    return folded


def check_rows(folded: Folded, stored: Mapping[str, Mapping[str, Rows]], verdict: Verdict) -> None:
    """Compares the rows of each store, by what they are, with the log's."""
    for store, found in stored.items():
        expected = {f"{what} in {store}": rows for what, rows in folded.rows.items()}
        named = {f"{what} in {store}": found[what] for what in folded.rows}
        compare_documents(expected, named, verdict)
        verdict.documents += sum(map(len, named.values()))


def check_places(
    folded: Folded, records: Iterable[tuple[Place, str]], verdict: Verdict, *, emptied: bool
) -> int:
    """Reads a topic as a follower of versions does, given each record's place and the event's id.

    Returns how many records repeat others. One that was `emptied` begins somewhere, and is then
    filled from the start.
    """
    reached: dict[str, int] = {}
    ids: dict[Place, str] = {}
    repeats = 0
    for (stream, version), id in records:
        first = ids.setdefault((stream, version), id)
        if first != id:
            verdict.twice.append(f"the topic has {stream} at {version} as {first} and as {id}")
        before = reached.get(stream, 0)
        if version == before + 1:
            reached[stream] = version
        elif version <= before:
            repeats += 1
        elif not emptied:
            verdict.out_of_order.append(f"the topic has {stream} at {version} after {before}")
    taken = {(stream, n) for stream, version in reached.items() for n in range(1, version + 1)}
    verdict.lost += [f"the topic lacks {s} at {v}" for s, v in sorted(folded.places - taken)]
    verdict.others += [f"the log lacks {s} at {v}" for s, v in sorted(taken - folded.places)]
    return repeats
