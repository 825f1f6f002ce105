"""The page in a real browser: what `curl` changes is seen on it, as text, without a reload."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bus import Settings
from tests.end_to_end.processes import ApiProcess
from tests.waiting import patience, until
from tools.browser import Browser
from tools.services.packages import programs

PROMISED, ALLOWED = 1.0, 5.0
"""Seconds until a change shows: what is promised, and what a busy machine may take."""

TITLES = "return [...document.querySelectorAll('#jobs .title')].map((one) => one.textContent)"
LINE = "return document.getElementById('line').textContent"
SAID = "return document.querySelector(arguments[0] + ' .said').textContent"
FILL = """
const form = document.querySelector(arguments[0]);
for (const [name, text] of Object.entries(arguments[1])) { form.elements[name].value = text; }
form.requestSubmit();
"""


@pytest.fixture
async def api(real_settings: Settings, unique: str, tmp_path: Path) -> AsyncIterator[ApiProcess]:
    async with ApiProcess(real_settings, unique, tmp_path / "api", "--with-worker") as api:
        await api.ready()
        yield api


@pytest.fixture
async def page(api: ApiProcess) -> AsyncIterator[Browser]:
    async with Browser() as browser:
        await browser.open(api.url)
        await until(lambda: shows(browser, LINE, "live"), "the page is live", within=30)
        yield browser


async def shows(page: Browser, script: str, wanted: object, *arguments: object) -> bool:
    return bool(await page.run(script, *arguments) == wanted)


async def curl(url: str, body: dict[str, str], *, method: str = "POST") -> Any:
    """What the command `curl` is answered."""
    (program,) = await asyncio.to_thread(programs, "curl", packages=["curl"])
    command = [program, "--silent", "--show-error", "--fail-with-body", "--request", method, url]
    sending = ["--header", "Content-Type: application/json", "--data", json.dumps(body)]
    done = await asyncio.to_thread(
        subprocess.run, [*command, *sending], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


async def test_what_curl_changes_shows_within_a_second(
    api: ApiProcess, page: Browser, record_property: Callable[[str, object], None]
) -> None:
    delays = []
    for number in range(1, 6):
        title = f"Signaller {number}"
        await curl(f"{api.url}/api/v1/jobs", {"title": title, "description": "Night shifts."})
        answered = time.monotonic()
        titles = [f"Signaller {n}" for n in range(number, 0, -1)]
        await until(partial(shows, page, TITLES, titles), f"{title} shows", within=ALLOWED)
        delays.append(time.monotonic() - answered)
    record_property("shown_after_s", [round(delay, 3) for delay in delays])
    print(f"shown {', '.join(f'{1000 * one:.0f} ms' for one in delays)} after curl was answered")
    assert min(delays) < PROMISED * patience()


async def test_what_others_wrote_shows_as_text_and_runs_nothing(
    api: ApiProcess, page: Browser
) -> None:
    bad = (
        "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    )
    await curl(f"{api.url}/api/v1/jobs", {"title": bad, "description": bad})
    await until(lambda: shows(page, TITLES, [bad]), "the title shows, as text")
    assert await page.run("return document.title") == "Job board"
    assert await page.run("return document.querySelectorAll('#jobs script, #jobs img').length") == 0
    inline = "const one = document.createElement('script'); one.textContent = arguments[0];"
    await page.run(f"{inline} document.body.append(one)", "document.title = 'taken'")
    assert await page.run("return document.title") == "Job board"  # the policy forbids it anyhow


async def test_people_post_and_apply_and_are_told_what_went_wrong(
    api: ApiProcess, page: Browser
) -> None:
    await page.run(FILL, "#post", {"title": "Cook", "description": "Breakfast for forty."})
    await until(lambda: shows(page, TITLES, ["Cook"]), "the job shows")
    await until(lambda: shows(page, SAID, "Posted.", "#post"), "the page says so")
    await page.run("document.querySelector('#jobs summary').click()")
    await page.run(FILL, "#jobs form", {"applicant": "Ada", "letter": "I cook."})
    facts = "return document.querySelector('#jobs .applications').textContent"
    await until(lambda: shows(page, facts, "1 application"), "the application counts")

    await page.run("document.querySelector('#post').noValidate = true")
    await page.run(FILL, "#post", {"title": "", "description": "x"})

    async def told() -> bool:
        said: str = await page.run(SAID, "#post")
        return said.startswith("The request is not as it must be: title: ")

    await until(told, "the page says what is wrong")


async def test_the_page_comes_back_after_its_server_was_killed(
    api: ApiProcess, page: Browser
) -> None:
    await curl(f"{api.url}/api/v1/jobs", {"title": "Before", "description": "x"})
    await until(lambda: shows(page, TITLES, ["Before"]), "the job shows")
    api.kill()
    await api.ended(5)
    await until(lambda: shows(page, LINE, "reconnecting"), "the page tells it")
    await page.run(FILL, "#post", {"title": "Lost?", "description": "x"})

    async def told() -> bool:
        return "cannot be reached" in await page.run(SAID, "#post")

    await until(told, "the page says that it is not sent")
    await api.start()
    await until(lambda: shows(page, LINE, "live"), "the page is live again", within=40)
    await curl(f"{api.url}/api/v1/jobs", {"title": "After", "description": "x"})
    await until(lambda: shows(page, TITLES, ["After", "Before"]), "what came later shows")
