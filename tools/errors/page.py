"""Makes docs/errors.md."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from bus.dispatch import middleware
from tools.errors import (
    asking,
    commanding,
    connecting,
    declaring,
    mistaking,
    moving,
    projecting,
    searching,
    sending,
    setting,
    streaming,
)
from tools.errors.entries import ENDED, WIDTH, Entry, Section
from tools.errors.sites import ROOT, Site, sites
from tools.errors.statuses import kinds, of_classes, of_commands

PAGE = ROOT / "docs" / "errors.md"
INTRODUCTION = Path(__file__).parent / "introduction.md"
MISSING = "What is not on this page"
SECTIONS: list[Section] = [
    *setting.SECTIONS,
    *connecting.SECTIONS,
    *declaring.SECTIONS,
    *mistaking.SECTIONS,
    *sending.SECTIONS,
    *asking.SECTIONS,
    *projecting.SECTIONS,
    *streaming.SECTIONS,
    *searching.SECTIONS,
    *commanding.SECTIONS,
    *moving.SECTIONS,
]

SERVERS = (
    "bus/kafka/outlet",
    "bus/kafka/topics",
    "bus/stores/mongo/",
    "bus/stores/mongo/",
    "bus/stores/search/",
    "bus/stores/sql/",
    "bus/transports/rabbitmq/",
)
"""What needs a server."""


@cache
def provoked() -> Mapping[int, str]:
    """The words of every entry, by its id."""
    entries = [entry for section in SECTIONS for entry in section.entries]
    waiting = [entry for entry in entries if entry.waits]
    with ThreadPoolExecutor(len(waiting)) as pool:
        coming = {id(entry): pool.submit(entry.provoke) for entry in waiting}
        told = {id(entry): entry.provoke() for entry in entries if not entry.waits}
        return told | {key: words.result() for key, words in coming.items()}


def written(told: Mapping[int, str]) -> str:
    """The page."""
    lines = [_introduction(told)]
    for section in SECTIONS:
        lines += [f"## {section.title}", ""]
        lines += [section.introduction, ""] if section.introduction else []
        for entry in section.entries:
            lines += [*_shown(entry, told[id(entry)]), ""]
    lines += _missing(list(told.values()))
    return "\n".join(lines).rstrip() + "\n"


def _introduction(told: Mapping[int, str]) -> str:
    """What stands above the entries: what each class asks for, the words, the examples' service."""
    text = INTRODUCTION.read_text()
    titles = [*re.findall(r"(?m)^## (.+)$", text), *(one.title for one in SECTIONS), MISSING]
    parts = {
        "contents": "\n".join(f"- [{title}](#{anchor(title)})" for title in titles),
        "index": "\n".join(_index(told, titles)),
        "tries": str(middleware.TRIES - 1),
        "statuses": "\n".join(of_commands()),
        "service": (INTRODUCTION.parent / "bank.py").read_text().strip(),
    }
    for name, value in parts.items():
        text = text.replace(f"{{{name}}}", value)
    return re.sub(r"(?m)^(\| `(\w+)`[^|]*\|[^|]*\|[^|]*\|)(?=[^|]*\|$)", _with_statuses, text)


def _with_statuses(row: re.Match[str]) -> str:
    http, exit = of_classes()[row[2]]
    return f"{row[1]} {http} | {exit} |"


def _index(told: Mapping[int, str], titles: Sequence[str]) -> Iterator[str]:
    """For each class the entries that end in it; what was not provoked stands at the page's end."""
    seen = Counter(map(anchor, titles))
    found: dict[str, list[str]] = {kind.__name__: [] for kind in kinds()}
    others: list[str] = []
    for section in SECTIONS:
        for entry in section.entries:
            heading = anchor(entry.title)
            place = f"{heading}-{seen[heading]}" if seen[heading] else heading
            seen[heading] += 1
            kind = told[id(entry)].partition(":")[0]
            found.get(kind, others).append(f"[{entry.title}](#{place})")
    for name in filter(found.get, found):
        yield f"- `{name}`: {', '.join(found[name])}"
    yield f"- a wrong line: {', '.join(others)}"
    without = ", ".join(f"`{name}`" for name in found if not found[name])
    yield f"- [not provoked](#{anchor(MISSING)}): {without}"


def anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _shown(entry: Entry, told: str) -> Iterator[str]:
    yield f"### {entry.title}\n"
    yield f"```{entry.language}\n{entry.code}\n```\n"
    words, _, status = told.partition(ENDED)
    yield f"```text\n{_wrapped(words)}\n```"
    if status:
        yield f"\nExit status {status}."


def _wrapped(words: str) -> str:
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent=_indent(line), break_on_hyphens=False,
                      break_long_words=False)
        for line in words.splitlines()
    )  # fmt: skip


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip())) + ("    " if line.startswith(" ") else "")


def split(told: Sequence[str]) -> tuple[list[Site], list[Site]]:
    """The places whose words are on the page, and those whose are not."""
    shown: list[Site] = []
    others: list[Site] = []
    for site in sites():
        (shown if any(map(site.matches, told)) else others).append(site)
    return shown, others


AREAS = {
    "bus/cli/": "commands",
    "bus/stores/mongo/": "MongoDB",
    "bus/transports/rabbitmq/": "RabbitMQ",
    "bus/transports/": "messages as they travel",
    "bus/stores/": "what is stored",
    "bus/read/": "projections",
    "bus/write/": "aggregates",
    "bus/rebuild/": "projections",
    "bus/continuity/": "workers, and what is repaired",
    "bus/delivery/": "workers, and what is repaired",
    "bus/failures/": "workers, and what is repaired",
    "bus/following/": "workers, and what is repaired",
    "bus/operate/": "workers, and what is repaired",
    "bus/recovery/": "workers, and what is repaired",
    "bus/worker": "workers, and what is repaired",
    "bus/describe/": "contracts",
    "bus/settings": "settings",
    "bus/assembly/backend": "settings",
    "bus/codec": "messages as they travel",
    "bus/data/fields": "messages",
    "bus/data/": "messages as they travel",
    "bus/messages": "messages",
    "bus/classes": "messages",
    "bus/registry": "messages",
    "bus/": "handlers, and the bus",
}


def _missing(told: Sequence[str]) -> Iterator[str]:
    _, others = split(told)
    yield f"## {MISSING}\n"
    yield (
        "The words of these were not provoked here: they need a server, one that fails, or two "
        "releases of a service (tests in `tests/service` and `tests/fault` do that). What stands "
        "in angle brackets differs from case to case.\n"
    )
    yield "| class | met with | words |"
    yield "|---|---|---|"
    rows = {(one.error.replace("BadParameter", "wrong line"), _area(one), _plain(one.shown))
            for one in others}  # fmt: skip
    for error, area, words in sorted(rows):
        yield f"| {error} | {area} | {words} |"


def _area(site: Site) -> str:
    return next(area for start, area in AREAS.items() if site.path.startswith(start))


def _plain(words: str) -> str:
    safe = re.sub(r"\s+", " ", words).replace("`", "'").replace("|", "/")
    return f"`{safe.strip()}`"
