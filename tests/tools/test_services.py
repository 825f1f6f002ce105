"""Real nodes start, crash, come back and end; whoever starts one leaves nothing running."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo import MongoClient

from tests.servers import nothing_runs_in, processes_of
from tests.stores import available
from tools.services import (
    MongoNode,
    PostgreSQLNode,
    RabbitMQNode,
    ServiceUnavailable,
    services,
)
from tools.services.command import run as run_command
from tools.services.finding import VARIABLES
from tools.services.other_user import place_of
from tools.services.ports import free_ports, is_free, places, reachable, wait_until
from tools.services.process import bound_to
from tools.services.rabbitmq import speaks_amqp

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service to be found: neither the test run's, nor Docker's."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOUBLEDECKER_NO_DOCKER", "1")


@pytest.fixture
def no_rabbitmq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOUBLEDECKER_RABBITMQ", str(tmp_path / "nowhere"))


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tools.services", *arguments]


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


# --- nodes ---------------------------------------------------------------------------------


def test_a_rabbitmq_node_survives_a_freeze_and_a_crash_and_leaves_nothing(tmp_path: Path) -> None:
    node = RabbitMQNode(tmp_path / "node")
    with node:
        first_pid, port = node.pid, node.port
        assert node.url == f"amqp://guest:guest@127.0.0.1:{port}/"
        node.control("add_vhost", "kept")

        node.pause()
        assert not speaks_amqp(port, seconds=0.5)
        node.resume()
        assert speaks_amqp(port)

        node.kill()
        assert not node.running
        node.start()
        assert node.port == port
        assert node.pid != first_pid
        assert "kept" in node.control("list_vhosts").split()
    assert nothing_runs_in(tmp_path)
    assert all(is_free(port) for port in node.ports.values())


def test_a_mongodb_node_is_primary_at_once_and_keeps_its_data_over_a_crash(tmp_path: Path) -> None:
    with MongoNode(tmp_path / "a node", parameters={"ttlMonitorEnabled": "false"}) as node:
        port = node.port
        with MongoClient[dict[str, int]](node.url) as client:
            with client.start_session() as session, session.start_transaction():
                client["kept"]["things"].insert_one({"_id": 1}, session=session)
            setting = client.admin.command("getParameter", 1, ttlMonitorEnabled=1)
            assert setting["ttlMonitorEnabled"] is False

        for end in (node.kill, node.stop):
            end()
            assert not node.running
            node.start()
            assert node.port == port
            with MongoClient[dict[str, int]](node.url) as client:
                assert client["kept"]["things"].count_documents({}) == 1
    assert nothing_runs_in(tmp_path)


def test_a_node_started_by_a_thread_outlives_that_thread(tmp_path: Path) -> None:
    node = MongoNode(tmp_path)
    thread = threading.Thread(target=node.start)
    thread.start()
    thread.join()
    try:
        # Bound to the thread, the kernel would have killed it before the thread was joined.
        assert not wait_until(lambda: not node.running, seconds=0.5)
    finally:
        node.close(remove=True)
    assert not tmp_path.exists()


@pytest.mark.parametrize("kind", [RabbitMQNode, MongoNode])
def test_a_taken_port_is_refused(kind: type[RabbitMQNode | MongoNode], tmp_path: Path) -> None:
    with listening() as port:
        node = kind(tmp_path, port=port)
        with pytest.raises(ServiceUnavailable, match=rf"port {port} .* is taken"):
            node.start()
    assert nothing_runs_in(tmp_path)


def test_another_port_for_an_old_folder_is_refused(tmp_path: Path) -> None:
    port, other = free_ports(2)
    assert MongoNode(tmp_path, port=port).port == port
    with pytest.raises(ServiceUnavailable, match=f"has port {port} and cannot change to {other}"):
        _ = MongoNode(tmp_path, port=other).port


def test_a_node_that_fails_tells_why_and_leaves_nothing(tmp_path: Path) -> None:
    node = MongoNode(tmp_path, parameters={"noSuchParameter": "1"})
    with pytest.raises(ServiceUnavailable, match="noSuchParameter"):
        node.start()
    assert nothing_runs_in(tmp_path)


def test_a_closed_node_stays_closed(tmp_path: Path) -> None:
    node = MongoNode(tmp_path)
    node.close()
    with pytest.raises(ServiceUnavailable, match="closed for good"):
        node.start()
    with pytest.raises(ServiceUnavailable, match="does not run"):
        _ = node.pid


# --- finding -------------------------------------------------------------------------------


def test_urls_of_the_environment_are_used_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with listening() as port:
        monkeypatch.setenv("BUS_AMQP_URL", f"amqp://somebody:secret@localhost:{port}/of%2Fmine")
        monkeypatch.setenv("BUS_MONGO_URL", f"mongodb://localhost:1,localhost:{port}/?a=b")
        with services(kept_folder=tmp_path) as found:
            assert found.amqp_url == f"amqp://somebody:secret@localhost:{port}/of%2Fmine"
            assert found.mongo_url == f"mongodb://localhost:1,localhost:{port}/?a=b"
            assert (found.amqp_origin, found.mongo_origin) == ("environment", "environment")
            assert (found.rabbitmq, found.mongodb) == (None, None)


def test_a_url_where_nothing_answers_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("BUS_AMQP_URL", f"amqp://somebody:secret@localhost:{port}/")
    with (
        pytest.raises(ServiceUnavailable, match=f"BUS_AMQP_URL names localhost:{port}") as refusal,
        services(["rabbitmq"], kept_folder=tmp_path),
    ):
        pass
    assert "secret" not in str(refusal.value)


def test_urls_name_their_servers() -> None:
    assert places("amqp://u:p@host/") == [("host", 5672)]
    assert places("amqps://host") == [("host", 5671)]
    assert places("mongodb://u:p@a,b:1/?replicaSet=rs0") == [("a", 27017), ("b", 1)]
    assert places("mongodb://[::1]:7/") == [("::1", 7)]
    assert reachable("memory://")
    assert reachable("mongodb+srv://only.dns.knows/")


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'redis' is none of"), services(["redis"]):
        pass


@pytest.mark.usefixtures("alone", "no_rabbitmq")
def test_without_rabbitmq_memory_takes_its_place_where_that_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with services(["rabbitmq"], kept_folder=tmp_path, allow_memory=True) as found:
        assert (found.amqp_url, found.amqp_origin) == ("memory://", "memory")
        assert (found.mongo_url, found.mongo_origin) == ("", "none")
        assert found.rabbitmq is None
        assert found.environment == {"BUS_AMQP_URL": "memory://"}
    assert "in-memory transport" in capsys.readouterr().err


@pytest.mark.usefixtures("alone", "no_rabbitmq")
def test_without_rabbitmq_everything_that_was_started_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        pytest.raises(ServiceUnavailable, match="no rabbitmq-server"),
        services(folder=home, kept_folder=tmp_path / "kept"),
    ):
        pass
    assert nothing_runs_in(home)


FAKE_DOCKER = """\
#!/bin/sh
echo "$*" >>"$(dirname "$0")/calls"
case "$*" in
    *" ps "*) echo mongodb ;;
    *" up "*) exit ${FAKE_DOCKER_UP:-0} ;;
esac
"""


@pytest.fixture
def docker_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> Path:
    """A Docker engine that only writes down what it was asked; MongoDB runs in it already."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(FAKE_DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("DOUBLEDECKER_NO_DOCKER")
    return program.parent / "calls"


def test_a_docker_engine_is_used_and_only_what_was_started_in_it_is_stopped(
    docker_calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLEDECKER_AMQP_PORT", "5678")
    with services(kept_folder=tmp_path) as found:
        assert (found.amqp_origin, found.mongo_origin) == ("docker", "docker")
        assert found.amqp_url == "amqp://guest:guest@127.0.0.1:5678/"
        assert found.mongo_url == "mongodb://127.0.0.1:27017/?replicaSet=rs0"
    *_, up, stop = docker_calls.read_text().splitlines()
    assert up.endswith("compose.yaml up --detach --wait rabbitmq mongodb")
    assert stop.endswith("compose.yaml stop rabbitmq")


@pytest.mark.usefixtures("docker_calls", "no_rabbitmq")
def test_a_docker_engine_that_fails_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_DOCKER_UP", "1")
    with services(["rabbitmq"], kept_folder=tmp_path, allow_memory=True) as found:
        assert found.amqp_origin == "memory"
    assert "Going on with private nodes" in capsys.readouterr().err


# --- the command line ----------------------------------------------------------------------

TELL = "import os; print(os.environ['BUS_AMQP_URL'], os.environ['BUS_MONGO_URL'], flush=True)"
WAIT = "; import time; time.sleep(100)"


@pytest.mark.usefixtures("alone")
def test_services_die_with_the_one_that_ran_them_however_it_dies(tmp_path: Path) -> None:
    words = ("run", "--try", "postgresql,mariadb", "--folder", str(tmp_path / "kept"))
    child = subprocess.Popen(
        command(*words, sys.executable, "-c", TELL + WAIT),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with child:
        assert child.stdout is not None
        amqp_url, mongo_url = child.stdout.readline().split()
        assert reachable(amqp_url)
        assert reachable(mongo_url)
        (home,) = tmp_path.glob("doubledecker-*")
        child.kill()
        child.wait()
        try:
            assert nothing_runs_in(home), "nodes outlived a killed `run`"
        finally:
            os.killpg(child.pid, signal.SIGKILL)  # the command itself, which got no signal
            for pid in processes_of(home):
                os.kill(int(pid), signal.SIGKILL)
            for node in home.iterdir():
                shutil.rmtree(place_of(node), ignore_errors=True)


def test_a_server_whose_parent_died_before_the_kernel_was_told_does_not_run(tmp_path: Path) -> None:
    def runs_below(pid: int, file: Path) -> bool:
        subprocess.run([*bound_to(pid), "touch", str(file)], check=False)
        return file.exists()

    assert runs_below(os.getpid(), tmp_path / "mine")
    assert not runs_below(os.getppid(), tmp_path / "orphan")


@pytest.mark.usefixtures("alone", "no_rabbitmq")
def test_run_passes_signals_on_and_ends_with_the_status_of_its_command(tmp_path: Path) -> None:
    catch = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); " + TELL + WAIT
    options = ("--allow-memory", "--folder", str(tmp_path / "kept"))
    child = subprocess.Popen(
        command("run", *options, "--", sys.executable, "-c", catch),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("memory:// mongodb://127.0.0.1:")
        child.terminate()
        assert child.wait(timeout=20) == 7
    assert list(tmp_path.glob("doubledecker-*")) == []
    assert nothing_runs_in(tmp_path)


@pytest.mark.parametrize("option", ["--with", "--try"])
def test_a_server_that_is_not_known_is_refused_with_those_that_are(option: str) -> None:
    done = run("run", option, "mariadb,oracle", "true")
    assert done.returncode == 2
    assert "'oracle' is none of postgresql, mariadb, mysql" in done.stderr


def test_run_tells_a_missing_command_as_a_shell_does(tmp_path: Path) -> None:
    with listening() as port:
        urls = {
            "BUS_AMQP_URL": f"amqp://localhost:{port}",
            "BUS_MONGO_URL": f"mongodb://localhost:{port}",
        }
        missing = run("run", "no-such-command", **urls)
        assert (missing.returncode, missing.stdout) == (127, "")
        assert "no-such-command is not found" in missing.stderr
        assert run("run", str(tmp_path), **urls).returncode == 126
        assert run("run", "sh", "-c", "kill -9 $$", **urls).returncode == 137
        assert run("run", **urls).returncode == 2


@pytest.mark.usefixtures("alone")
def test_kept_services_stay_until_they_are_taken_down(tmp_path: Path) -> None:
    available(PostgreSQLNode)
    folder, more = ("--folder", str(tmp_path)), ("--with", "postgresql")
    try:
        up = run("up", *more, *folder)
        assert up.returncode == 0, up.stderr
        exports = [line.removeprefix("export ") for line in up.stdout.splitlines()]
        urls = dict(shlex.split(line)[0].split("=", 1) for line in exports)
        assert urls.keys() == {"BUS_AMQP_URL", "BUS_MONGO_URL", "BUS_TEST_POSTGRESQL_URL"}
        assert all(map(reachable, urls.values()))

        assert run("up", *more, *folder).stdout == up.stdout
        with services(["rabbitmq", "mongodb", "postgresql"], kept_folder=tmp_path) as found:
            assert (found.amqp_origin, found.mongo_origin) == ("kept", "kept")
            assert found.environment == urls
        status = run("status", "--json", *folder)
        assert status.returncode == 0
        assert json.loads(status.stdout)["rabbitmq"] == {
            "running": True,
            "url": urls["BUS_AMQP_URL"],
            "origin": "private",
        }
        assert json.loads(status.stdout)["postgresql"]["running"]
    finally:
        run("down", "--remove", *folder)
    assert nothing_runs_in(tmp_path)
    assert run("status", *folder).returncode == 1


def test_a_command_imports_from_its_own_folder_not_from_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLEDECKER_PYTHONPATH", "/of/the/caller")
    monkeypatch.setenv("PYTHONPATH", "/of/ours")
    seen = tmp_path / "seen"
    assert run_command(["sh", "-c", f'printf %s "$PYTHONPATH" > {seen}'], {}) == 0
    assert seen.read_text() == "/of/the/caller"
