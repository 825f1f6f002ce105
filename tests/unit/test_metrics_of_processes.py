"""Metrics of several processes, or buses, of one machine behind one port."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from structlog.testing import capture_logs

from bus import ConfigurationError, Settings, Worker
from bus.observe import health_server
from bus.observe.health_server import SHARED
from bus.telemetry import metrics
from bus.telemetry.metrics.processes import Shared
from bus.telemetry.metrics.tally import Reading
from tests.scraping import asked, page, total, values
from tests.service.wallet import Diary, Pay, build
from tests.waiting import until
from tools.services.ports import free_ports

PAYING = """
import asyncio, sys
from bus import Settings
from bus.telemetry import metrics
from tests.service.wallet import Diary, Pay, build

async def run(count):
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    async with bus:
        for number in range(count):
            await bus.execute(Pay(wallet_id=f"w{number}", amount=1))
        metrics.page(bus)
        print("paid", flush=True)
        sys.stdin.readline()

asyncio.run(run(int(sys.argv[1])))
"""

FORKED = """
import os, pathlib
from bus.observe.health_server import SHARED
from bus.telemetry.metrics.processes import Shared
from bus.telemetry.metrics.tally import Reading

shared = Shared(pathlib.Path(os.environ[SHARED]), "bank", lambda: Reading({}, {}, {}))
shared.start()
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
    shared.stop()
else:
    shared.start()
    shared.stop()
    os._exit(0)
"""

pytestmark = [pytest.mark.real_time, pytest.mark.usefixtures("every_level")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SHARED, str(tmp_path))
    return tmp_path


@pytest.fixture
def paying(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that have carried out three and four commands."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PAYING, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in ("3", "4")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "paid\n"
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def written(folder: Path) -> list[str]:
    """Returns what each bus has written."""
    return [path.read_text() for path in folder.glob("bus_*.json")]


async def test_any_process_answers_for_all(paying: list[subprocess.Popen[str]]) -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        text = metrics.page(bus)[1]
    assert total(text, "bus_commands_total") == 8
    assert total(text, "bus_command_duration_seconds_count") > 1


async def test_what_a_killed_process_counted_stays(paying: list[subprocess.Popen[str]]) -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    async with bus:
        for process in paying:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert list(values(metrics.page(bus)[1], "bus_stored_commits_total").values()) == [7]


async def test_of_a_killed_process_nothing_is_told_as_if_it_were_so_now(
    paying: list[subprocess.Popen[str]], folder: Path
) -> None:
    other = build(Settings.in_memory(), Diary(), "other")
    metrics.page(other)
    async with other:
        text = metrics.page(other)[1].decode()
        assert 'bus_info{broker="memory"' in text
        assert text.count('service="bank",store="memory"') == 1  # one value for both that live
        for process in paying:
            process.kill()
            process.wait()
        assert 'service="bank",store="memory"' not in metrics.page(other)[1].decode()


async def test_two_buses_of_one_process_are_told_by_service(folder: Path) -> None:
    one = build(Settings.in_memory(), Diary(), "one")
    two = build(Settings.in_memory(), Diary(), "two")
    metrics.page(one)
    metrics.page(two)
    async with one, two:
        await one.execute(Pay(wallet_id="a", amount=1))
        await two.execute(Pay(wallet_id="a", amount=1))
        await two.execute(Pay(wallet_id="a", amount=1))

        def shown() -> bool:
            text = metrics.page(one)[1].decode()
            assert 'bus_stored_commits_total{service="one"} 1.0' in text
            return 'bus_stored_commits_total{service="two"} 2.0' in text

        await until(shown, "the other one's are written, too")


async def test_a_bus_that_is_opened_again_goes_on_in_its_file(folder: Path) -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    for _ in range(2):
        async with bus:
            await bus.execute(Pay(wallet_id="a", amount=1))
    assert list(values(metrics.page(bus)[1], "bus_stored_commits_total").values()) == [2]
    assert len(written(folder)) == 1


async def test_counts_are_written_though_nobody_asks(folder: Path) -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        await until(
            lambda: any("bus.stored.commits" in text for text in written(folder)),
            "the thread writes what is counted",
        )


async def test_a_folder_that_is_not_there_is_named_once_and_harms_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SHARED, str(folder / "missing"))
    bus = build(Settings.in_memory(health_port=9), Diary(), "bank")
    async with bus:
        await bus.execute(Pay(wallet_id="a", amount=1))
        assert b"bus_stored_commits_total" in (await bus.runtime.signals.pages["/metrics"](""))[1]
    said = capfd.readouterr().err
    assert said.count("metrics_not_shared") == 1
    assert "telemetry_failed" not in said


async def test_the_first_worker_takes_the_port_and_others_go_on(folder: Path) -> None:
    (port,) = free_ports(1)
    settings = Settings.in_memory(health_port=port)
    one, other = build(settings, Diary(), "one"), build(settings, Diary(), "other")
    with capture_logs() as lines:
        async with one, Worker(one), other, Worker(other):
            await other.execute(Pay(wallet_id="a", amount=1))
            metrics.page(other)  # writes what it has counted
            status, body = await asyncio.to_thread(asked, port)
    assert [line["port"] for line in lines if line["event"] == "health_port_taken"] == [port]
    assert status == 200
    assert b'bus_stored_commits_total{service="other"} 1.0' in body


async def test_another_worker_takes_the_port_once_it_is_free(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_server, "TRY_EVERY", 0.05)
    (port,) = free_ports(1)
    settings = Settings.in_memory(health_port=port)
    one, other = build(settings, Diary(), "one"), build(settings, Diary(), "other")

    async def other_answers() -> bool:
        return b'service="other"' in await page(port)

    async with other:
        async with one, Worker(one):
            worker = await Worker(other).__aenter__()
            assert b'service="one"' in await page(port)
        await until(other_answers, "the other one answers")
        await worker.__aexit__(None, None, None)
    assert await page(port) == b""


async def test_a_file_that_cannot_be_read_is_left_out_and_named_once(folder: Path) -> None:
    bus = build(Settings.in_memory(), Diary(), "bank")
    metrics.page(bus)
    for number, text in enumerate(("", "{", "[]", '{"service": "bank"}')):
        (folder / f"bus_{number}_torn.json").write_text(text)
    with capture_logs() as lines:
        async with bus:
            await bus.execute(Pay(wallet_id="a", amount=1))
            for _ in range(2):
                assert total(metrics.page(bus)[1], "bus_stored_commits_total") == 1
    said = [line["file"] for line in lines if line["event"] == "metrics_not_shared"]
    assert sorted(said) == [f"bus_{number}_torn.json" for number in range(4)]


def test_the_child_of_a_fork_has_a_file_of_its_own(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=120)
    files = sorted(folder.glob("bus_*.json"))
    assert len(files) == len({path.name.split("_")[1] for path in files}) == 2


def test_what_one_thread_writes_is_not_put_back_by_another(folder: Path) -> None:
    count, reads, may_go_on = 0, Event(), Event()

    def read() -> Reading:
        nonlocal count
        count += 1
        found = Reading({"bus.relayed": {(): count}}, {}, {})
        if count == 1:
            reads.set()
            may_go_on.wait(0.5)
        return found

    shared = Shared(folder, "bank", read)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.write)
        assert reads.wait(60)
        threads.submit(shared.write).result()
        may_go_on.set()
        first.result()
    (text,) = written(folder)
    assert json.loads(text)["counters"] == {"bus.relayed": [[[], 2]]}


async def test_without_the_variable_a_port_that_is_taken_is_refused() -> None:
    (port,) = free_ports(1)
    settings = Settings.in_memory(health_port=port)
    one, other = build(settings, Diary(), "one"), build(settings, Diary(), "other")
    async with one, Worker(one), other:
        with pytest.raises(ConfigurationError, match="something listens there"):
            await Worker(other).__aenter__()
