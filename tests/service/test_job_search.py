"""The job board's search: in OpenSearch and Elasticsearch, and by MongoDB's text index."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import httpx
import pytest

from bus import Bus, Projections, Receipt, Settings, Worker
from handlers import app
from read_models.job_board import JobView, ListJobs, WatchJobs
from read_models.paging import Page
from read_models.stores import SEARCH
from tests.databases import drop
from tests.service.conftest import client_of
from write_models.applications import SubmitApplication
from write_models.jobs import ArchiveJob, PostJob, ReviseJob

JOBS = 24
TRADES = ("Baker", "Bus driver", "Clockmaker", "Night porter")
TEXTS = ("Full-time, and the shop grows.", "Night shifts; wanted: a driver", "Weekends")
STOP_WORDS = {"a", "and", "the"}
ASKED = (
    "baker",
    "BAKER night",
    "driver clockmaker",
    "weekends wanted",
    "full-time",
    "-baker driver",
    '"bus driver"',
    "the gone",
    "the",
    "nobody",
    "?!",
    "",
)


@pytest.fixture
async def board(
    real_settings: Settings,
    unique: str,
    search_url: str,
    mongo_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Bus]:
    """A job board on a search engine."""
    monkeypatch.setenv(SEARCH, search_url)
    async with app.build(real_settings, unique) as bus, Worker(bus):
        yield bus
    await drop(mongo_url, unique)


def titled(number: int) -> str:
    return f"Gone {TRADES[number % 4]}" if number % 5 == 0 else TRADES[number % 4]


async def fill(bus: Bus) -> list[Receipt]:
    """Posts, revises and archives jobs, and applies for them; returns each job's last receipt."""
    return [await post(bus, number) for number in range(JOBS)]


async def post(bus: Bus, number: int) -> Receipt:
    job, text = f"j{number:02}", TEXTS[number % 3]
    posting = PostJob(job_id=job, title=TRADES[number % 4], description=text)
    receipt = await bus.execute(posting)
    if number % 5 == 0:
        receipt = await bus.execute(
            ReviseJob(job_id=job, version=1, title=titled(number), description=text)
        )
    if number % 4 == 0:
        applied = SubmitApplication(
            application_id=f"a{number}", job_id=job, applicant="ada", letter="-"
        )
        receipt = await bus.execute(applied, after=receipt, timeout=30)
    if number % 7 == 0:
        receipt = await bus.execute(ArchiveJob(job_id=job))
    return receipt


def mentioning(text: str) -> list[str]:
    """The open jobs that have one of the words, newest first."""
    wanted = words_of(text)
    found = [
        f"j{number:02}"
        for number in range(JOBS)
        if number % 7 and (not text or wanted & words_of(f"{titled(number)} {TEXTS[number % 3]}"))
    ]
    return found[::-1]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - STOP_WORDS


async def pages_of(bus: Bus, text: str) -> list[Page[JobView]]:
    """What is found, as a whole, and in parts."""
    pages = [await bus.query(ListJobs(text=text, limit=100))]
    return pages + [
        await bus.query(ListJobs(text=text, skip=skip, limit=2)) for skip in (0, 2, 5, 999_999)
    ]


async def test_engines_and_mongodb_answer_alike(
    board: Bus, real_settings: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for receipt in await fill(board):
        await board.query(ListJobs(text="any"), after=receipt, timeout=30)
    monkeypatch.delenv(SEARCH)
    async with app.build(real_settings, unique) as without:
        for text in ASKED:
            found = await pages_of(board, text)
            assert found == await pages_of(without, text), text
            check(found, mentioning(text))
    assert (await Projections(board).audit("job_search")).is_right


def check(pages: Sequence[Page[JobView]], expected: Sequence[str]) -> None:
    whole, *parts = pages
    assert [job.id for job in whole.items] == expected
    assert {page.total for page in pages} == {len(expected)}
    assert [job.id for page in parts for job in page.items] == [
        *expected[:4],
        *expected[5:7],
    ]
    assert all(job.applications == (int(job.id[1:]) % 4 == 0) for job in whole.items)


async def test_a_search_by_http_finds_what_the_receipt_tells_of(board: Bus) -> None:
    async with client_of(board) as client:
        body = {"title": "Night baker", "description": "Bread"}
        for number in range(5):
            posted = await client.post("/api/v1/jobs", json=body)
            assert (await found(client, "bread", posted)) == number + 1
        archived = await client.put(f"{posted.headers['Location']}/archive")
        assert (await found(client, "bread", archived)) == 4


async def found(client: httpx.AsyncClient, text: str, after: httpx.Response) -> int:
    """How many jobs a search finds that waits for what was written."""
    headers = {"Bus-Receipt": after.headers["Bus-Receipt"], "Prefer": "wait=30"}
    answer = await client.get("/api/v1/jobs", params={"text": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert len(page["items"]) == page["total"]
    return int(page["total"])


async def test_lists_are_watched_with_an_engine_too(board: Bus) -> None:
    async with aclosing(board.watch(WatchJobs(text="baker"), timeout=30)) as answers:
        assert (await anext(answers)).total == 0
        await board.execute(PostJob(job_id="j1", title="Baker", description="Bread"))
        assert (await anext(answers)).total == 1
