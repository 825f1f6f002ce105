"""The service of docs/search.md does what the page says, on both engines."""

import importlib.util
import sys
from pathlib import Path

import pytest

from bus import Settings, Worker
from tests.project.test_docs import write_files


async def test_the_page_s_service_finds_jobs_until_they_are_closed(
    tmp_path: Path, search_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_files("search.md", tmp_path) == 1
    file = tmp_path / "job_search.py"
    text = file.read_text()
    assert 'prefix="example-"' in text
    file.write_text(text.replace('prefix="example-"', f'prefix="{unique}"'))
    monkeypatch.setenv("SEARCH_URL", search_url)
    spec = importlib.util.spec_from_file_location("job_search", file)
    assert spec
    assert spec.loader
    page = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "job_search", page)
    spec.loader.exec_module(page)
    async with page.build(Settings.in_memory()) as bus, Worker(bus):
        for id, title in (("a", "Night Baker"), ("b", "Cook")):
            receipt = await bus.execute(page.PostJob(job_id=id, title=title, town="Bern"))
        assert await bus.query(page.SearchJobs(text="baker"), after=receipt, timeout=30) == ["a"]
        receipt = await bus.execute(page.CloseJob(job_id="a"))
        assert await bus.query(page.SearchJobs(text="baker"), after=receipt, timeout=30) == []
