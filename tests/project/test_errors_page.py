"""docs/errors.md is what the code says."""

import re
from collections import Counter
from pathlib import Path

import pytest

from bus import DeadLetterError, errors
from tools.errors.entries import Section
from tools.errors.page import (
    INTRODUCTION,
    PAGE,
    SECTIONS,
    SERVERS,
    anchor,
    provoked,
    split,
    written,
)
from tools.errors.sites import LEAST
from tools.errors.statuses import kinds

ENOUGH = 0.5


def entries(page: str) -> str:
    """All but the table of places, to which each new refusal adds."""
    return page.partition("## What is not on this page")[0]


def test_the_page_is_what_the_code_says() -> None:
    shown, written_now = PAGE.read_text(), written(provoked())
    assert entries(shown) == entries(written_now), "errors say something else: run bin/errors"


def test_most_errors_that_need_no_server_are_on_the_page() -> None:
    shown, others = split(list(provoked().values()))
    without = [site for site in others if not site.path.startswith(SERVERS)]
    share = len(shown) / (len(shown) + len(without))
    assert share >= ENOUGH, "\n".join(map(str, without))


def test_the_page_says_of_each_class_what_it_asks_for() -> None:
    kinds = {one for one in vars(errors).values() if isinstance(one, type)} - {errors.BusError}
    named = {
        name for name in re.findall(r"`(\w+)`", INTRODUCTION.read_text()) if hasattr(errors, name)
    }
    assert named >= {kind.__name__ for kind in kinds if issubclass(kind, errors.BusError)}


def test_each_entry_is_found_by_the_class_of_its_error() -> None:
    page = PAGE.read_text()
    headings = re.findall(r"(?m)^##+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", page))
    seen: Counter[str] = Counter()
    places: list[str] = []
    for one in map(anchor, headings):
        places.append(f"{one}-{seen[one]}" if seen[one] else one)
        seen[one] += 1
    _, _, index = page.partition("## By class")
    links = re.findall(r"\]\(#([^)]+)\)", index.partition("\n## ")[0])
    entries = sum(len(section.entries) for section in SECTIONS)
    assert len(set(links)) == entries + 1  # and what is not on the page
    assert set(links) <= set(places)


def test_the_page_tells_how_a_command_and_the_job_board_end_by_each_class() -> None:
    page = PAGE.read_text()
    rows = dict(re.findall(r"(?m)^\| `(\w+)`.*?\| (\d+ \| \d) \|", page))
    assert rows["ConfigurationError"] == "500 | 2"
    assert rows["AggregateNotFound"] == "404 | 1"
    assert rows["StoreUnavailable"] == "503 | 1"
    bases = {"MessageError", "Unavailable", "NewerMessage"}  # beside others in the text
    assert {*rows} == {kind.__name__ for kind in kinds()} - bases


def test_no_two_entries_of_a_section_are_titled_alike() -> None:
    for section in SECTIONS:
        titles = [entry.title for entry in section.entries]
        assert len({*titles}) == len(titles)


@pytest.mark.parametrize("word", ["tools.errors", "<locals>", "0x", str(Path.cwd())])
def test_nothing_of_where_it_was_written_is_on_the_page(word: str) -> None:
    assert word not in PAGE.read_text()


def test_an_entry_that_provokes_another_error_than_it_means_fails() -> None:
    section = Section("Of a test")

    @section("DeadLetterError: its data cannot be changed")
    def the_data_of_an_event() -> None:
        raise DeadLetterError("balances/account-a1: there is no such dead letter")

    @section("StoreUnavailable: there is no such")
    def a_store_that_is_away() -> None:
        raise DeadLetterError("there is no such dead letter")

    section.command(
        "An unknown module", "ConfigurationError: is a path", "bus topology shops:build"
    )
    for entry in section.entries:
        with pytest.raises(AssertionError, match=f"{entry.title}: '.*' is meant, and this came"):
            entry.provoke()


def test_each_entry_says_words_of_the_error_that_it_means() -> None:
    for section in SECTIONS:
        for entry in section.entries:
            kind, _, words = entry.means.partition(": ")
            assert kind in {"Error", *(one.__name__ for one in kinds())}
            assert len(words) >= LEAST, entry.title
