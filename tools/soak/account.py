"""Account: what the ledgers say, added up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = "OutcomeUnknown"


@dataclass
class Account:
    """Intentions and outcomes by command id; `seconds` are those of the slowest call.

    `said` holds the command and the error of each try that ended in one which says that nothing was
    stored: all errors but `OutcomeUnknown`. `gone` are commands that a restored log rightly lacked;
    they may have been sent again.
    """

    intended: set[str] = field(default_factory=set)
    accepted: dict[str, Mapping[str, int]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    refusals: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    said: dict[str, tuple[str, str]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    left_tasks: list[str] = field(default_factory=list)
    slowest: float = 0.0
    _backed_up: set[str] = field(default_factory=set)

    @property
    def unsettled(self) -> set[str]:
        """Commands of which nobody knows what became."""
        return self.intended - self.accepted.keys() - self.refused

    def add(self, line: Mapping[str, Any]) -> None:
        """Takes one line of a ledger."""
        self._note_word(line)
        self.slowest = max(self.slowest, line.get("seconds", 0.0))
        match line:
            case {"intended": str(id)}:
                self.intended.add(id)
            case {"accepted": str(id)}:
                self._accept(id, line["versions"])
            case {"refused": str(id)}:
                self._refuse(id, line["error"], line["expected"])
            case {"unknown": str(id)}:
                self.unknown[line["error"].partition(":")[0]] += 1
            case {"stale": str(job)}:
                self.unexpected.append(
                    f"job {job} was read at {line['got']} after a receipt for {line['wanted']}"
                )
            case {"backup": _}:
                self._backed_up = set(self.accepted)
            case {"gone": list(ids)}:
                self._forget(set(ids) - self._backed_up)
            case {"ended": int(_)}:
                self.left_tasks += line["tasks"]

    def _note_word(self, line: Mapping[str, Any]) -> None:
        id, error = line.get("refused") or line.get("unknown"), line.get("error", "")
        if id and "try" in line and not error.startswith(UNKNOWN):
            self.said[line["try"]] = id, error

    def _forget(self, gone: set[str]) -> None:
        """What was accepted after a backup is no matter any more once that was restored: it is as
        if it had never been sent. What was accepted before it has to be there."""
        self.gone |= gone
        self.intended -= gone
        for id in gone:
            self.accepted.pop(id, None)

    def _accept(self, id: str, versions: Mapping[str, int]) -> None:
        first = self.accepted.setdefault(id, versions)
        if first != versions:
            self.contradictions.append(f"{id}: the receipt was {first}, and of a repeat {versions}")

    def _refuse(self, id: str, error: str, expected: bool) -> None:
        self.refused.add(id)
        self.refusals[error.partition(":")[0]] += 1
        if not expected:
            self.unexpected.append(f"{id}: {error}")
        if id in self.accepted:
            self.contradictions.append(f"{id}: accepted first, and then refused: {error}")


def account(lines: Iterable[Mapping[str, Any]]) -> Account:
    """Adds up the lines of ledgers."""
    found = Account()
    for line in lines:
        found.add(line)
    return found
