"""Purses: what the log says of the money, beside the read documents and what handlers noted.

Each move is in the log whole or not at all, all purses together hold what they began with, and
each event of money was noted once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tools.soak.log import Document
from tools.soak.service import FIRST_BALANCE

SIGNS = {"PurseOpened": ("balance", 1), "MoneyLeft": ("amount", -1), "MoneyCame": ("amount", 1)}


@dataclass
class Purses:
    """What the log's commits of purses come to."""

    balances: Counter[str] = field(default_factory=Counter)
    moves: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    came: set[str] = field(default_factory=set)
    left: dict[str, datetime] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)

    def add(self, commit: Document) -> None:
        """Takes a commit; those of a stream in the order of their versions."""
        stream = commit["stream"]
        if commit["first"] != self.versions.get(stream, 0) + 1:
            self.gaps.append(f"{stream}: {commit['first']} after {self.versions.get(stream, 0)}")
        self.versions[stream] = commit["first"] + len(commit["events"]) - 1
        for place, event in enumerate(commit["events"], 1):
            self._add(commit, f"{commit['_id']}:{place}", event)

    def _add(self, commit: Document, id: str, event: Document) -> None:
        name = event["name"]
        amount, sign = SIGNS[name]
        self.balances[commit["stream"].partition("-")[2]] += sign * event["data"][amount]
        self.moves[commit["_id"].partition("/")[0]][name] += 1
        if name == "MoneyCame":
            self.came.add(id)
        if name == "MoneyLeft":
            self.left[id] = commit["time"]

    @property
    def torn(self) -> list[str]:
        """Commands of which one half is in the log."""
        whole = (Counter(PurseOpened=1), Counter(MoneyLeft=1, MoneyCame=1))
        return [f"{id}: {dict(names)}" for id, names in self.moves.items() if names not in whole]


def check_purses(
    commits: Iterable[Document],
    stored: Mapping[str, Document],
    seen: Mapping[str, int],
    release_2_since: datetime | None,
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """What is lost, what came twice, and what is wrong in another way, in words.

    `seen` tells how often each event was noted by a handler. Money that left is noted from release
    2 on, whose queue was bound at `release_2_since` at the latest.
    """
    purses = Purses()
    for commit in commits:
        purses.add(commit)
    must = purses.came | {
        id for id, time in purses.left.items() if release_2_since and time > release_2_since
    }
    lost = [f"{id} was handled by nobody" for id in must if not seen.get(id)]
    lost += [f"one half of a command is in the log: {one}" for one in purses.torn]
    twice = [f"{id} was noted {times} times" for id, times in seen.items() if times > 1]
    others = [f"the log has a gap: {gap}" for gap in purses.gaps]
    others += [
        f"{id} was noted, and is not in the log"
        for id in seen.keys() - purses.came - purses.left.keys()
    ]
    others += [
        f"purse {purse} holds {held}, and the log says {wanted}"
        for purse, wanted in purses.balances.items()
        if (held := stored.get(purse, {}).get("balance")) != wanted
    ]
    opened = sum("PurseOpened" in names for names in purses.moves.values())
    if purses.balances.total() != opened * FIRST_BALANCE:
        others.append(f"{opened} purses hold {purses.balances.total()} together")
    if below := [purse for purse, balance in purses.balances.items() if balance < 0]:
        others.append(f"less than nothing is in {', '.join(below)}")
    return lost, twice, others
