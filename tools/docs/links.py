"""Where the pages of a built site lead, and what they load: what zensical does not look at."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Links(HTMLParser):
    """Collects a page's links, and what a browser loads for it by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                (self.links if tag == "a" else self.loaded).add(value)


def problems_of(site: Path) -> Iterator[str]:
    """The files that pages name and that are not there, and what they load from another host."""
    for page in sorted(site.glob("**/*.html")):
        read = Links()
        read.feed(page.read_text())
        shown = page.relative_to(site)
        yield from (f"{shown} loads from another host: {one}" for one in read.loaded if _far(one))
        near = (one for one in read.links | read.loaded if not _far(one))
        yield from (
            f"{shown} leads nowhere: {one}" for one in near if not _is_there(page, one, site)
        )


def _far(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def _is_there(page: Path, link: str, site: Path) -> bool:
    path = unquote(urlsplit(link).path)
    target = site / path.lstrip("/") if path.startswith("/") else page.parent / path
    return target.is_file() or (target / "index.html").is_file() or not path
