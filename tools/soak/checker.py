"""Checker: the ledger, the log and the read collections side by side.

Reads all three for itself: what each event means is told by the demo's fold, which shares no code
with the bus and the read models.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tools.demo.fold import Collections, fold
from tools.demo.verify import WrongField, compare
from tools.soak.account import Account
from tools.soak.calls import TRY
from tools.soak.log import Document
from tools.soak.observer import Sequence

CLOSING = "CloseApplication"
PURSE = "purse"
ONCE = frozenset({"JobPosted", "JobArchived", "ApplicationSubmitted", "ApplicationClosed"})


@dataclass
class Verdict:
    """Each list says in words what is wrong; empty lists are what a run is for."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    differences: list[WrongField] = field(default_factory=list)
    events: int = 0
    documents: int = 0

    @property
    def wrong_documents(self) -> int:
        return len({(one.collection, one.key) for one in self.differences})

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.twice, *self.out_of_order, *self.untrue, *self.others]


def command_of(id: str) -> str:
    """The command to which an event or a commit belongs, by its id."""
    return id.partition("/")[0].partition(":")[0]


def check(
    account: Account, commits: list[Document], stored: Collections, observed: Sequence
) -> Verdict:
    """Compares the ledger with the log, and the log with the documents and how they changed.

    `commits` come in the order of their streams' versions; those of purses are looked into by
    `check_purses`, and are here for what the ledger says of them.
    """
    of_jobs = [commit for commit in commits if commit["category"] != PURSE]
    folded = fold(of_jobs)
    verdict = Verdict(events=folded.events, documents=sum(map(len, stored.values())))
    _compare_ledger(account, commits, verdict)
    _check_words(account, commits, verdict)
    _check_effects(of_jobs, verdict)
    verdict.out_of_order += [f"the log has a gap: {gap}" for gap in folded.gaps]
    verdict.out_of_order += observed.backwards
    verdict.twice += observed.twice
    compare_documents(folded.collections, stored, verdict)
    verdict.others += [f"{one} is not closed, and its job is archived" for one in folded.left_open]
    return verdict


def _compare_ledger(account: Account, commits: Iterable[Document], verdict: Verdict) -> None:
    written = {
        (command_of(commit["_id"]), commit["stream"]): commit["first"] + len(commit["events"])
        for commit in commits
        if commit["events"]
    }
    for id, versions in account.accepted.items():
        for stream, version in versions.items():
            if written.get((id, stream)) != version + 1:
                verdict.lost.append(f"{id} was accepted with {stream} at {version}: not in the log")
    known = {id for id, _ in written}
    verdict.others += [f"{id} was refused, and is in the log" for id in account.refused & known]
    verdict.others += [f"{id} never got an outcome" for id in account.unsettled]
    verdict.others += [f"unexpected: {one}" for one in account.unexpected]
    verdict.twice += account.contradictions
    nobodys = {command_of(c["_id"]) for c in commits if c["events"] and c["message"] != CLOSING}
    verdict.others += [
        f"{id} is in the log, and nobody sent it" for id in nobodys - account.intended
    ]


def _check_words(account: Account, commits: Iterable[Document], verdict: Verdict) -> None:
    """A try that ended in an error which says that nothing was stored, and stored something."""
    for commit in commits:
        attempt, id = commit.get("headers", {}).get(TRY, ""), command_of(commit["_id"])
        said_of, error = account.said.get(attempt, ("", ""))
        if said_of == id:
            verdict.untrue.append(f"{id} ended in {error}: and {commit['stream']} has it")


def _check_effects(commits: Iterable[Document], verdict: Verdict) -> None:
    """What a stream can have once only, and what two commits of one place would be."""
    effects = Counter(
        (commit["stream"], event["name"])
        for commit in commits
        for event in commit["events"]
        if event["name"] in ONCE
    )
    verdict.twice += [f"{s}: {n} {times} times" for (s, n), times in effects.items() if times > 1]


def compare_documents(expected: Collections, stored: Collections, verdict: Verdict) -> None:
    """Notes each field that is not as expected, as lost, as come twice, or as just wrong."""
    found = compare(expected, stored)
    verdict.differences += found
    for one in found:
        text = (
            f"{one.collection} {one.key}: {one.field} is {one.stored!r}, and the log says "
            f"{one.expected!r}"
        )
        _list_of(one, verdict).append(text)


def _list_of(one: WrongField, verdict: Verdict) -> list[str]:
    """What is behind the log is lost, a count beyond it came twice; else it is just wrong."""
    if one.stored is None:
        return verdict.lost
    if isinstance(one.stored, int) and isinstance(one.expected, int):
        return verdict.lost if one.stored < one.expected else verdict.twice
    return verdict.others
