"""The page at /: what the browser is told of it, and that it needs nothing from elsewhere."""

import re

import httpx
import pytest

from bus import Settings
from handlers.app import build
from handlers.http.board import FILES
from tests.service.conftest import client_of


@pytest.fixture
def api() -> httpx.AsyncClient:
    return client_of(build(Settings.in_memory()))


async def test_it_is_html_under_a_policy_that_lets_nothing_else_in(api: httpx.AsyncClient) -> None:
    page = await api.get("/")
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_its_files_are_served_and_there_are_no_others(api: httpx.AsyncClient) -> None:
    page = (await api.get("/")).text
    named = set(re.findall(r'(?:src|href)="(/[^"]*)"', page)) - {"/docs"}
    assert named == FILES.keys() - {"/"}
    kinds = [(await api.get(path)).headers["Content-Type"].partition(";")[0] for path in FILES]
    assert kinds == ["text/html", "text/css", "text/javascript"]


@pytest.mark.parametrize("path", FILES)
async def test_nothing_in_them_comes_from_elsewhere_or_is_written_as_html(
    api: httpx.AsyncClient, path: str
) -> None:
    text = (await api.get(path)).text
    for forbidden in (
        "http:",
        "https:",
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ):
        assert forbidden not in text
    assert not re.search(r"<[^>]+\son\w+=|<[^>]+\sstyle=|<style|<script>", text)
