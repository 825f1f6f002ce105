"""Makes docs/errors.md."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from tools.errors import asking, commanding, declaring, projecting, sending, setting
from tools.errors.entries import WIDTH, Entry, Section
from tools.errors.sites import ROOT, Site, sites

PAGE = ROOT / "docs" / "errors.md"
SECTIONS: list[Section] = [
    *setting.SECTIONS,
    *declaring.SECTIONS,
    *sending.SECTIONS,
    *asking.SECTIONS,
    *projecting.SECTIONS,
    *commanding.SECTIONS,
]

HEAD = (
    "# Errors\n\n"
    "What the bus says when something is wrong, and to what. Each error here was provoked by the "
    "lines above it when this page was written (`bin/errors`), and a test compares the page with "
    "what the code says now.\n\n"
    "The class of an error says what to do next: `ConfigurationError`: mend the program or its "
    "settings, then start again. `InvalidMessage` and `UnknownMessage`: the message itself is "
    "wrong, and trying again does not help. `Unavailable` and its subclasses: wait, then try "
    "again. `OutcomeUnknown`: repeat with the same id. The tree of all of them is in the docstring "
    "of `bus.errors`.\n"
)
SERVICE = (
    "## The service of the examples\n\n"
    "The lines below use this module, `bank.py`, and names of `bus`; the variable `bus` is what "
    "`async with build(Settings.in_memory()) as bus` gives.\n"
)


SERVERS = ("bus/stores/mongo/", "bus/transports/rabbitmq/")
"""What needs a server."""


@cache
def provoked() -> Mapping[int, str]:
    """The words of every entry, by its id."""
    return {id(entry): entry.provoke() for section in SECTIONS for entry in section.entries}


def written(told: Mapping[int, str]) -> str:
    """The page."""
    lines = [HEAD]
    lines += [f"- [{one.title}](#{_anchor(one.title)})" for one in SECTIONS]
    lines += ["- [What is not on this page](#what-is-not-on-this-page)", ""]
    source = (Path(__file__).parent / "bank.py").read_text()
    lines += [SERVICE, f"```python\n{source.strip()}\n```", ""]
    for section in SECTIONS:
        lines += [f"## {section.title}", ""]
        lines += [section.introduction, ""] if section.introduction else []
        for entry in section.entries:
            lines += [*_shown(entry, told[id(entry)]), ""]
    lines += _missing(list(told.values()))
    return "\n".join(lines).rstrip() + "\n"


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _shown(entry: Entry, told: str) -> Iterator[str]:
    yield f"### {entry.title}\n"
    yield f"```{entry.language}\n{entry.code}\n```\n"
    yield f"```text\n{_wrapped(told)}\n```"


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


def _missing(told: Sequence[str]) -> Iterator[str]:
    shown, others = split(told)
    yield "## What is not on this page\n"
    yield (
        "The words of these were not provoked here: they need a server, one that fails, or two "
        "releases of a service. The tests that do so are in `tests/service` and `tests/fault`. "
        "What `...` stands for differs from case to case.\n"
    )
    yield "| where | on this page | not on it |"
    yield "|---|---|---|"
    for path in sorted({one.path for one in (*shown, *others)}):
        count = sum(one.path == path for one in shown)
        words = [f"{one.error}: {_plain(one.words)}" for one in others if one.path == path]
        yield f"| `{path}` | {count} | {'<br>'.join(words)} |"


def _plain(words: str) -> str:
    short = textwrap.shorten(" ".join(words.split()), 110, placeholder=" ...")
    return f"`{short.replace('`', chr(39)).replace('|', '/')}`"
