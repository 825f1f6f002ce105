"""Compares two descriptions of a service: whether the change breaks anybody. Needs no service."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from bus.data.payload import Document
from bus.describe.contracts import FORMAT
from bus.describe.schemas import Mismatch, differences
from bus.errors import ConfigurationError

Verdict = Literal["breaking", "unclear", "compatible"]
Concerns = Literal["stored events", "subscribers", "senders", "the service itself"]


class ContractFinding(NamedTuple):
    """A change, whom it concerns and how, and (if it breaks them) what would make it compatible.

    "unclear" is what the descriptions do not show; it counts as breaking.
    """

    verdict: Verdict
    message: str
    concerns: Concerns
    what: str
    remedy: str = ""


def compare_contracts(
    before: Document, now: Document, *, owners: Sequence[Document] = ()
) -> list[ContractFinding]:
    """Returns what has changed from one description to another, breaking changes first.

    `owners` are the descriptions of services that this one follows: what they write is compared
    with what it reads. Raises: ConfigurationError if one is not a description that this version can
    read, or is of a service that is not followed.
    """
    for description in (before, now, *owners):
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            raise ConfigurationError(
                f"what is to be compared is not what `bus contracts export` of this version "
                f"writes ({_format_of(description)}, and not format {FORMAT}); export it anew"
            )
    found = [
        *_events(before, now),
        *_of_owners(now, owners),
        *_commands(before, now),
        *_queries(before, now),
    ]
    order: list[Verdict] = ["breaking", "unclear", "compatible"]
    return sorted(found, key=lambda finding: order.index(finding.verdict))


def breaks(findings: Sequence[ContractFinding]) -> bool:
    """Returns whether the changes break somebody, or might."""
    return any(finding.verdict != "compatible" for finding in findings)


def _format_of(given: Any) -> str:
    if not isinstance(given, dict):
        return f"a {type(given).__name__}"
    return f"format {given['format']!r:.50}" if "format" in given else "it says no format"


def _events(before: Document, now: Document) -> Iterator[ContractFinding]:
    names = {
        name: (own, event)
        for own, event in reversed(list(now["events"].items()))
        for name in (own, *event["formerly"])
    }
    names |= {own: (own, event) for own, event in now["events"].items()}
    for name, old in before["events"].items():
        if "followed" in names.get(name, ("", old))[1]:
            yield from _followed_change(name, old, *names.get(name, ("", None)))
        elif name in names:
            yield from _event_change(name, old, *names[name], set(names))
        else:
            yield ContractFinding(
                verdict="breaking",
                message=f"event {name}",
                concerns="stored events",
                what="nothing reads it any more",
                remedy=f"keep its class, which nothing has to record; or, where another class "
                f"takes its place, write formerly=[{name!r}] there",
            )
    taken_over = {name for name in names if name in before["events"]}
    for name, event in now["events"].items():
        if not taken_over & {name, *event["formerly"]}:
            concerns: Concerns = "the service itself" if "followed" in event else "subscribers"
            yield ContractFinding("compatible", f"event {name}", concerns, "is new")


def _event_change(
    name: str, old: Document, new_name: str, new: Document, read: set[str]
) -> Iterator[ContractFinding]:
    message, changes = f"event {name}", _changes(name, old, new_name, new)
    if old == new and name == new_name:
        return
    stored = [*_former(message, old, read), *_reading(message, "stored events", old, new)]
    yield from stored or [ContractFinding("compatible", message, "stored events", changes)]
    found = list(_subscribing(name, old, new_name, new))
    yield from found or [ContractFinding("compatible", message, "subscribers", changes)]


def _followed_change(
    name: str, old: Document, new_name: str, new: Document | None
) -> Iterator[ContractFinding]:
    """Yields a change of another service's event. It never breaks anybody: nobody receives it from
    here, only this service reads it, and what is stored of it is as its owner wrote it."""
    if new is None:
        what = "is not read any more"
    elif "followed" not in old:
        what = f"is followed from service {_named(new['followed'])}, and only read"
    elif old != new or name != new_name:
        what = _changes(name, old, new_name, new)
    else:
        return
    yield ContractFinding("compatible", f"event {name}", "the service itself", what)


def _of_owners(now: Document, owners: Sequence[Document]) -> Iterator[ContractFinding]:
    """Yields what this service cannot read of what the services that it follows write."""
    followed = {name: event for name, event in now["events"].items() if "followed" in event}
    known = sorted({service for event in followed.values() for service in event["followed"]})
    for owner in owners:
        service = owner["service"]
        if service not in known:
            raise ConfigurationError(
                f"{now['service']} follows no service {service!r}; it follows "
                f"{_named(known) or 'none'}"
            )
        for name, read in followed.items():
            names = (name, *read["formerly"])
            for written in (n for n in names if "writes" in owner["events"].get(n, ())):
                yield from _owners(f"event {written}", service, owner["events"][written], read)


def _owners(
    message: str, service: str, written: Document, read: Document
) -> Iterator[ContractFinding]:
    if written["schema"] > read["schema"]:
        yield ContractFinding(
            verdict="breaking",
            message=message,
            concerns="the service itself",
            what=f"service {service!r} writes schema {written['schema']}, and {read['schema']} is "
            f"read",
            remedy=f"read it: schema={written['schema']}, and upcast where older ones are stored",
        )
    elif written["schema"] == read["schema"] or not read["upcast"]:
        for mismatch in differences(written["writes"], read["reads"], closed=True):
            yield _finding(message, "the service itself", mismatch)


def _named(services: Sequence[str]) -> str:
    return " or ".join(map(repr, services))


def _former(message: str, old: Document, read: set[str]) -> Iterator[ContractFinding]:
    for former in old["formerly"]:
        if former not in read:
            yield ContractFinding(
                verdict="breaking",
                message=message,
                concerns="stored events",
                what=f"is not read as {former} any more",
                remedy=f"write {former!r} in its formerly= again",
            )


def _subscribing(
    name: str, old: Document, new_name: str, new: Document
) -> Iterator[ContractFinding]:
    """Yields what breaks subscribers that know the older shape: in other services, and in processes
    of this one that are not replaced yet."""
    message = f"event {name}"
    if new_name not in (name, *old["formerly"]):
        yield ContractFinding(
            verdict="breaking",
            message=message,
            concerns="subscribers",
            what=f"leaves as {new_name}, which they do not know",
            remedy=f"keep the name that it travels by, class {new_name}(Event, name={name!r}); or "
            f"let them all know the new one first, class {name}(Event, formerly=[{new_name!r}])",
        )
    for mismatch in differences(new["writes"], old["reads"], closed=True):
        yield _finding(message, "subscribers", mismatch)


def _commands(before: Document, now: Document) -> Iterator[ContractFinding]:
    for name, old in before["commands"].items():
        new, message = now["commands"].get(name), f"command {name}"
        if new is None:
            yield ContractFinding(
                verdict="breaking",
                message=message,
                concerns="senders",
                what="nobody handles it any more",
                remedy="keep it and its handler until nobody sends it; a renamed class keeps the "
                f"name that it travels by with name={name!r}",
            )
        elif new != old:
            found = list(_reading(message, "senders", old, new))
            changes = _changes(name, old, name, new)
            yield from found or [ContractFinding("compatible", message, "senders", changes)]
    for name in now["commands"].keys() - before["commands"].keys():
        yield ContractFinding("compatible", f"command {name}", "senders", "is new")


def _queries(before: Document, now: Document) -> Iterator[ContractFinding]:
    """Yields changes of queries. They break nobody, because queries do not travel: the code that
    asks is deployed with the code that answers."""
    for name in sorted(before["queries"].keys() | now["queries"].keys()):
        old, new = before["queries"].get(name), now["queries"].get(name)
        if old != new:
            what = "is gone" if new is None else "has changed" if old else "is new"
            yield ContractFinding("compatible", f"query {name}", "the service itself", what)


def _reading(
    message: str, concerns: Concerns, old: Document, new: Document
) -> Iterator[ContractFinding]:
    """Yields why the newer class cannot read what was written in the older shape."""
    if new["schema"] < old["schema"]:
        yield ContractFinding(
            verdict="breaking",
            message=message,
            concerns=concerns,
            what=f"schema {old['schema']} has become {new['schema']}",
            remedy=f"a schema only grows: make it {old['schema'] + 1}",
        )
    elif new["schema"] == old["schema"] or not new["upcast"]:
        for mismatch in differences(old["reads"], new["reads"], closed=False):
            yield _finding(message, concerns, mismatch)


_REMEDIES: dict[Concerns, dict[str, str]] = {
    "the service itself": {
        "missing": "give the field a default: the owner need not write it",
        "refused": "let the class ignore the field, which the owner writes",
        "narrowed": "take those values, which the owner writes",
    },
    "stored events": {
        "missing": "give the field a default, or raise schema= and let upcast fill it in",
        "refused": "let the class ignore the field, or raise schema= and let upcast remove it",
        "narrowed": "go on taking those values, or raise schema= and let upcast turn them into new "
        "ones",
    },
    "subscribers": {
        "missing": "go on writing the field, or publish an event of another name beside this one",
        "refused": "leave the field out, or publish an event of another name beside this one",
        "narrowed": "leave the field as it is and add another one, which they ignore",
    },
    "senders": {
        "missing": "give the field a default, or raise schema= and let upcast fill it in",
        "refused": "keep the field, with a default, or raise schema= and let upcast remove it",
        "narrowed": "go on taking those values, or raise schema= and let upcast turn them into new "
        "ones",
    },
}


def _finding(message: str, concerns: Concerns, mismatch: Mismatch) -> ContractFinding:
    unclear = mismatch.kind == "unclear"
    place = f"{mismatch.path}: " if mismatch.path else ""
    what = (
        f"{place}unclear {mismatch.what}; taken for breaking"
        if unclear
        else f"{place}{mismatch.what}"
    )
    remedy = _REMEDIES[concerns]["narrowed" if unclear else mismatch.kind]
    return ContractFinding(
        verdict="unclear" if unclear else "breaking",
        message=message,
        concerns=concerns,
        what=what,
        remedy=remedy,
    )


def _changes(name: str, old: Document, new_name: str, new: Document) -> str:
    """Returns what has changed, in a few words."""
    words = [f"is {new_name} now"] if new_name != name else []
    if new["schema"] != old["schema"]:
        by = ", read by upcast" if new["upcast"] else ""
        words.append(f"schema {old['schema']} is {new['schema']} now{by}")
    before, after = (described["reads"].get("properties", {}) for described in (old, new))
    for field in sorted(before.keys() | after.keys()):
        if field not in before:
            words.append(f"{field} is new")
        elif field not in after:
            words.append(f"{field} is gone")
        elif before[field] != after[field]:
            words.append(f"{field} has changed")
    return "; ".join(words) or "is described otherwise"
