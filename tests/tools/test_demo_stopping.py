"""What is ended of a kept demo, and what not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.demo import __main__ as program
from tools.demo import looking, staying, stopping
from tools.demo.errors import DemoFailed
from tools.demo.staying import KeptDemo, KeptProcess
from tools.services import kept
from tools.services.kept import KeptService
from tools.services.ports import free_ports
from tools.services.process import ServerProcess

ALL_OF_THEM = ("theirs", "ours")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[dict[str, ServerProcess]]:
    found = {
        name: ServerProcess.start(
            [sys.executable, "-c", "import time; time.sleep(600)"],
            environment={},
            log=tmp_path / f"{name}.log",
            detached=False,
        )
        for name in ALL_OF_THEM
    }
    yield found
    for one in found.values():
        one.kill()


def noted(folder: Path, processes: dict[str, ServerProcess], server: str) -> KeptDemo:
    """A note of both, of which one began at another time: its number is somebody else's by now."""
    demo = KeptDemo(
        service="demo",
        database="demo",
        log="",
        stores=(),
        logs=str(folder / "demo"),
        servers={"mongodb": KeptService(server, "kept")},
        processes={
            "theirs": KeptProcess(processes["theirs"].pid, "1", "", ""),
            "ours": KeptProcess(processes["ours"].pid, processes["ours"].started, "", ""),
        },
    )
    demo.write(folder)
    return demo


def test_a_demo_that_was_interrupted_is_forgotten_only_once_nothing_of_it_runs(
    tmp_path: Path, processes: dict[str, ServerProcess]
) -> None:
    demo = noted(tmp_path, processes, "mongodb://127.0.0.1")
    staying.forget_ended(tmp_path)
    assert KeptDemo.read(tmp_path) == demo
    stopping.end(demo.running.values())
    staying.forget_ended(tmp_path)
    assert KeptDemo.read(tmp_path) is None
    staying.forget_ended(tmp_path)


def test_a_process_that_has_the_number_of_one_of_ours_is_left_alone(
    tmp_path: Path, processes: dict[str, ServerProcess]
) -> None:
    demo = noted(tmp_path, processes, "mongodb://127.0.0.1")
    assert demo.ended == ["theirs"]
    stopping.end(demo.running.values())
    assert processes["theirs"].alive
    assert not processes["ours"].alive


def test_where_a_server_is_away_the_processes_end_and_the_note_stays(
    tmp_path: Path, processes: dict[str, ServerProcess]
) -> None:
    (port,) = free_ports(1)
    demo = noted(tmp_path, processes, f"mongodb://127.0.0.1:{port}")
    with pytest.raises(DemoFailed, match=f"MongoDB does not answer at 127.0.0.1:{port}"):
        stopping.stop(tmp_path, demo)
    assert not processes["ours"].alive
    assert KeptDemo.read(tmp_path) == demo


def test_the_command_that_ends_it_names_the_folder_where_that_is_another_one(
    tmp_path: Path,
) -> None:
    assert looking.stop_command(kept.FOLDER) == "bin/demo --stop"
    assert looking.stop_command(tmp_path) == f"bin/demo --stop --folder {tmp_path}"


def test_a_folder_of_anybodys_beside_what_is_kept_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*words: object) -> None:
        raise DemoFailed("no server")

    theirs = tmp_path / "demo" / "__main__.py"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    monkeypatch.setattr(program, "_run", fails)
    monkeypatch.setattr(sys, "argv", ["bin/demo", "--keep", "--folder", str(tmp_path)])
    assert program.main() == program.FAILED
    assert theirs.read_text() == "theirs"
