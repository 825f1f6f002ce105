"""The fold of the log, in plain Python: what every read document ought to be.

Knows what each event means, and nothing of how the service projects it: no code is shared with
`bus` or `read_models`, so that a mistake there is not repeated here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

Document = dict[str, Any]
Collections = Mapping[str, Mapping[str, Document]]

COLLECTIONS = ("job_board", "job_replicas", "applications_by_job", "applicant_history")
"""What is read."""
STATES, BOOKINGS = "interviews", "bookings"
"""What is written beside the log: the states of aggregates, and what the service books itself."""
PER_DAY, SPANS = "applications_per_day", "jobs_open"
"""The tables for analysts."""
TABLES = (PER_DAY, SPANS)
SEARCHED = "job_search"
"""The documents of the search engine."""
RECORDS = "job_events"
"""What Kafka has of the events of jobs."""
COUNTS = "jobs_per_day"
"""What the third service keeps."""


class Fact(NamedTuple):
    """One event of the log."""

    id: str
    stream: str
    version: int
    time: datetime
    name: str
    data: Document


class Folded:
    """The documents that the log makes, and what else it tells."""

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, Document]] = {
            name: defaultdict(dict) for name in COLLECTIONS
        }
        self.tables: dict[str, dict[str, Document]] = {name: defaultdict(dict) for name in TABLES}
        self.records: dict[str, Document] = {}
        self.counts: dict[str, Document] = defaultdict(lambda: {"posted": 0, "archived": 0})
        self.states: dict[str, Document] = {}
        self.versions: dict[str, int] = defaultdict(int)
        self.gaps: list[str] = []
        self.events = 0
        self.archived: set[str] = set()
        self.closed: set[str] = set()
        self.open: dict[str, str] = {}

    @property
    def left_open(self) -> list[str]:
        """Applications that ought to be closed, since their job is archived, and are not yet."""
        return [application for application, job in self.open.items() if job in self.archived]

    @property
    def bookings(self) -> dict[str, Document]:
        """The rooms of interviews that take place, by interview."""
        return {key: {"hour": one["hour"], "room": one["room"]} for key, one in self._planned()}

    @property
    def left_planned(self) -> list[str]:
        """Interviews that ought to be called off, since the application is closed."""
        return [key for key, one in self._planned() if one["application_id"] in self.closed]

    @property
    def written(self) -> Collections:
        """What stands beside the log."""
        return {STATES: self.states, BOOKINGS: self.bookings}

    @property
    def elsewhere(self) -> Collections:
        """What stands in other stores than the service's own."""
        return {
            **self.tables,
            SEARCHED: self._searched(),
            RECORDS: self.records,
            COUNTS: self.counts,
        }

    def add(self, fact: Fact) -> None:
        if fact.version != self.versions[fact.stream] + 1:
            self.gaps.append(f"{fact.stream}: {fact.version} after {self.versions[fact.stream]}")
        self.versions[fact.stream] = fact.version
        self.events += 1
        _MEANINGS[fact.name](self, fact)

    def _change(self, collection: str, key: str, **fields: Any) -> None:
        self.collections[collection][key].update(fields)

    def _searched(self) -> dict[str, Document]:
        """The job board's documents; those that have a job name it."""
        board = self.collections["job_board"].items()
        return {key: one | ({"id": key} if "status" in one else {}) for key, one in board}

    def _record(self, fact: Fact) -> None:
        """Each version of a stream comes after the one before it."""
        told = {"id": fact.id, "name": fact.name, "time": fact.time, "data": fact.data}
        self.records[f"{fact.stream} {fact.version}"] = told | {"after": fact.version - 1}

    def _posted(self, fact: Fact) -> None:
        key, data = fact.data["job_id"], fact.data
        self._change("job_board", key, status="open", posted=fact.time)
        self._revised(fact)
        self._change("job_replicas", key, title=data["title"])
        self.tables[SPANS][key] |= {"title": data["title"], "posted": fact.time}
        self.counts[str(fact.time.date())]["posted"] += 1

    def _revised(self, fact: Fact) -> None:
        self._record(fact)
        key, title = fact.data["job_id"], fact.data["title"]
        text = fact.data["description"]
        self._change("job_board", key, title=title, description=text, version=fact.version)
        self._change("job_replicas", key, title=title)

    def _archived(self, fact: Fact) -> None:
        self._record(fact)
        key = fact.data["job_id"]
        self.archived.add(key)
        self.counts[str(fact.time.date())]["archived"] += 1
        self._change("job_board", key, status="archived", version=fact.version)
        self._change("job_replicas", key, archived=True)
        self.tables[SPANS][key]["archived"] = fact.time

    def _submitted(self, fact: Fact) -> None:
        data = fact.data
        key, job = data["application_id"], data["job_id"]
        self.open[key] = job
        before = self.collections["job_board"][job].get("applications", 0)
        self._change("job_board", job, applications=before + 1)
        of_the_day = self.tables[PER_DAY][f"{job} {fact.time.date()}"]
        of_the_day["applications"] = of_the_day.get("applications", 0) + 1
        both = {"applicant": data["applicant"], "status": "open", "submitted": fact.time}
        self._change("applications_by_job", key, job_id=job, letter=data["letter"], **both)
        self._change("applicant_history", key, job_id=job, job_title=data["job_title"], **both)

    def _closed(self, fact: Fact) -> None:
        key = fact.data["application_id"]
        self.open.pop(key, None)
        self.closed.add(key)
        self._change("applications_by_job", key, status="closed")
        self._change(
            "applicant_history", key, status="closed", closed=fact.time, reason=fact.data["reason"]
        )

    def _interview_planned(self, fact: Fact) -> None:
        data = {name: value for name, value in fact.data.items() if name != "interview_id"}
        state = {**data, "status": "planned", "version": fact.version}
        self.states[fact.data["interview_id"]] = state

    def _interview_called_off(self, fact: Fact) -> None:
        state = self.states[fact.data["interview_id"]]
        state |= {"status": "called off", "version": fact.version}

    def _planned(self) -> list[tuple[str, Document]]:
        return [(key, one) for key, one in self.states.items() if one["status"] == "planned"]


_MEANINGS: Mapping[str, Callable[[Folded, Fact], None]] = {
    "JobPosted": Folded._posted,
    "JobRevised": Folded._revised,
    "JobArchived": Folded._archived,
    "ApplicationSubmitted": Folded._submitted,
    "ApplicationClosed": Folded._closed,
    "ApplicantInvited": lambda folded, fact: None,  # the interview itself tells of it
    "InterviewPlanned": Folded._interview_planned,
    "InterviewCalledOff": Folded._interview_called_off,
    "Fault": lambda folded, fact: None,  # tells of a message given up; no document holds it
}


def fold(commits: Iterable[Document]) -> Folded:
    """Folds commits, given in the order of their streams' versions."""
    folded = Folded()
    for commit in commits:
        for number, event in enumerate(commit["events"]):
            folded.add(
                Fact(
                    event.get("id") or f"{commit['_id']}:{number + 1}",
                    commit["stream"],
                    commit["first"] + number,
                    commit["time"],
                    event["name"],
                    event["data"],
                )
            )
    return folded
