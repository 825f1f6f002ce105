"""Real servers in Java: they crash, come back, freeze, refuse writes, and leave nothing running."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.servers import lent, nothing_runs_in, processes_of
from tests.stores import available
from tools.services import KafkaNode, ServiceUnavailable, later
from tools.services.errors import CommandFailed
from tools.services.finding import JAVA, VARIABLES, services
from tools.services.jars.fetching import Wanted, fetched
from tools.services.jars.jar_node import JarNode
from tools.services.jars.kafka import knows_brokers, new_name
from tools.services.jars.search import REFUSALS, SearchNode, call
from tools.services.packages import NO_INSTALL
from tools.services.ports import free_ports, is_free, wait_until

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = "/things/_doc/1?refresh=true"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service to be found: neither the test run's, nor Docker's."""
    for variable in (*VARIABLES.values(), later.ADDRESS):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOUBLEDECKER_NO_DOCKER", "1")


@pytest.fixture(params=JAVA)
def kind(request: pytest.FixtureRequest) -> type[JarNode]:
    return available(JAVA[request.param])


# --- the run's -----------------------------------------------------------------------------------


def test_a_test_has_indices_of_its_own(search_url: str, unique: str) -> None:
    call(search_url, "PUT", f"/{unique}/_doc/1?refresh=true", {"title": "A clerk"})
    found = call(search_url, "GET", f"/{unique}/_search", {"query": {"match": {"title": "clerk"}}})
    assert [hit["_id"] for hit in found["hits"]["hits"]] == ["1"]


def test_a_user_in_a_url_is_sent_as_a_header(search_url: str) -> None:
    assert call(search_url.replace("//", "//ada:differ%65nce@"), "GET", "/")["version"]


def test_a_test_has_kafka(kafka_server: str) -> None:
    host, _, port = kafka_server.removeprefix("kafka://").partition(":")
    assert knows_brokers(int(port), host=host)


def test_a_stale_version_is_refused_and_documents_are_deleted_by_query(
    search_url: str, unique: str
) -> None:
    versioned = f"/{unique}/_doc/1?version_type=external_gte&version="
    call(search_url, "PUT", f"{versioned}5", {"n": 5})
    for stale in (f"{versioned}4", f"/{unique}/_doc/1?if_seq_no=7&if_primary_term=1"):
        with pytest.raises(CommandFailed, match="409"):
            call(search_url, "PUT", stale, {"n": 4})
    call(search_url, "POST", f"/{unique}/_refresh")
    everything: dict[str, object] = {"query": {"match_all": {}}}
    assert call(search_url, "POST", f"/{unique}/_delete_by_query", everything)["deleted"] == 1


def test_opensearch_has_analysers_and_scripts(opensearch_url: str, unique: str) -> None:
    text = {"analyzer": "english", "text": "searching clerks"}
    tokens = call(opensearch_url, "POST", "/_analyze", text)["tokens"]
    assert [token["token"] for token in tokens] == ["search", "clerk"]
    call(opensearch_url, "PUT", f"/{unique}/_doc/1?refresh=true", {"n": 1})
    script = {"script": "ctx._source.n += 1"}
    assert call(opensearch_url, "POST", f"/{unique}/_update_by_query", script)["updated"] == 1
    assert call(opensearch_url, "GET", f"/{unique}/_doc/1")["_source"] == {"n": 2}


# --- search engines ------------------------------------------------------------------------------


def test_a_search_engine_keeps_its_documents_over_a_crash_and_a_clean_end(
    search_node: SearchNode,
) -> None:
    port = search_node.port
    search_node.call("PUT", DOCUMENT, {"title": "A clerk"})
    for end in (search_node.kill, search_node.stop):
        pid = search_node.pid
        end()
        assert not search_node.running
        with pytest.raises(REFUSALS):
            search_node.call("GET", "/")
        search_node.start()
        assert (search_node.port, search_node.pid != pid) == (port, True)
        assert search_node.call("GET", DOCUMENT)["_source"] == {"title": "A clerk"}
    search_node.wipe()
    search_node.start()
    with pytest.raises(CommandFailed, match="404"):
        search_node.call("GET", DOCUMENT)


def test_a_frozen_search_engine_answers_nobody_until_it_is_resumed(search_node: SearchNode) -> None:
    search_node.pause()
    with pytest.raises(REFUSALS):
        search_node.call("GET", "/", seconds=0.5)
    search_node.resume()
    assert search_node.call("GET", "/")["version"]["number"] == search_node.version
    search_node.pause()
    search_node.stop()
    assert not search_node.running


def test_a_full_search_engine_refuses_what_is_new(search_node: SearchNode) -> None:
    search_node.call("PUT", DOCUMENT, {"n": 1})
    with search_node.read_only():
        with pytest.raises(CommandFailed, match="read-only-allow-delete"):
            search_node.call("PUT", DOCUMENT, {"n": 2})
        assert search_node.call("GET", DOCUMENT)["_source"] == {"n": 1}
    assert search_node.call("PUT", DOCUMENT, {"n": 3})["result"] == "updated"


# --- Kafka ---------------------------------------------------------------------------------------


def test_kafka_comes_back_with_its_data_after_a_crash_and_a_clean_end(
    kafka_node: KafkaNode,
) -> None:
    port, cluster = kafka_node.port, cluster_of(kafka_node)
    for end in (kafka_node.kill, kafka_node.stop):
        pid = kafka_node.pid
        end()
        assert not kafka_node.running
        assert not knows_brokers(port)
        kafka_node.start()
        assert (kafka_node.port, kafka_node.pid != pid) == (port, True)
        assert cluster_of(kafka_node) == cluster
    kafka_node.wipe()
    kafka_node.start()
    assert cluster_of(kafka_node) != cluster


def cluster_of(node: KafkaNode) -> str:
    """The name that the server's data have from when they were made."""
    lines = (node.folder / "data" / "meta.properties").read_text().splitlines()
    return next(line for line in lines if line.startswith("cluster.id="))


def test_a_frozen_kafka_answers_nobody_until_it_is_resumed(kafka_node: KafkaNode) -> None:
    kafka_node.pause()
    assert not knows_brokers(kafka_node.port, seconds=0.5)
    kafka_node.resume()
    assert knows_brokers(kafka_node.port, seconds=30)
    kafka_node.pause()
    kafka_node.stop()
    assert not kafka_node.running


def test_kafka_sends_clients_to_the_port_that_it_is_to_advertise(
    kafka_kind: type[KafkaNode], tmp_path: Path
) -> None:
    node = kafka_kind(tmp_path)
    (node.advertised,) = free_ports(1)
    with lent(node):
        assert (
            f"CLIENT://127.0.0.1:{node.advertised}," in (tmp_path / "server.properties").read_text()
        )
        assert knows_brokers(node.port)


def test_a_cluster_is_never_named_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uuid.uuid4", lambda: UUID(bytes=b"\xfb" * 16))
    assert new_name()[0] not in "-_"
    assert len(new_name()) == 22


# --- all of them ---------------------------------------------------------------------------------


def test_a_node_leaves_nothing(kind: type[JarNode], tmp_path: Path) -> None:
    folder = tmp_path / "a node"
    node = kind(folder)
    with lent(node):
        assert processes_of(folder)
    assert nothing_runs_in(folder)
    assert all(is_free(port) for port in node.ports.values())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("kafka", {"num.io.threads": "few"}, "num.io.threads"),
        ("opensearch", {"no.such.setting": "1"}, "no.such.setting"),
        ("elasticsearch", {"no.such.setting": "1"}, "no.such.setting"),
    ],
)
def test_a_node_that_fails_tells_why_and_leaves_nothing(
    name: str, settings: dict[str, str], why: str, tmp_path: Path
) -> None:
    node = available(JAVA[name])(tmp_path, settings=settings)
    with pytest.raises(ServiceUnavailable, match=why), lent(node):
        pass
    assert nothing_runs_in(tmp_path)


# --- having them ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", JAVA)
def test_without_java_a_server_is_an_error_or_a_reason(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(NO_INSTALL, "1")
    remedy = rf"apt-get install default-jdk-headless maven` yourself, or .*{VARIABLES[name]}"
    with pytest.raises(ServiceUnavailable, match=remedy), services([name], kept_folder=tmp_path):
        pass
    with services([], optional=[name], kept_folder=tmp_path) as found:
        assert found.java == {}
        assert "is missing" in found.environment[f"BUS_TEST_{name.upper()}_MISSING"]
    with services([], on_demand=[name], kept_folder=tmp_path) as found:
        monkeypatch.setenv(later.ADDRESS, found.asked_at)
        assert "is missing" in later.ask(name).why_missing


def program(folder: Path, name: str, lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def unfetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wanted]:
    """What nobody has fetched yet, on a machine whose Java and Maven are scripts."""
    fetched.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    program(tmp_path / "bin", "java", "echo 'openjdk version \"17.0.1\"' >&2")
    program(tmp_path / "bin", "javac", "exit 0")
    yield Wanted("kafka", "Kafka", "BUS_TEST_KAFKA_URL")
    fetched.cache_clear()


def test_jars_are_fetched_once_and_whole(unfetched: Wanted, tmp_path: Path) -> None:
    program(tmp_path / "bin", "mvn", f"echo $$ >> {tmp_path}/calls; echo no network; exit 1")
    with pytest.raises(ServiceUnavailable, match=r"no network.*or set BUS_TEST_KAFKA_URL"):
        fetched(unfetched)
    assert not unfetched.folder.exists()
    program(tmp_path / "bin", "mvn", f"echo $$ >> {tmp_path}/calls")
    for _ in range(2):
        assert fetched(unfetched).folder == unfetched.folder
        fetched.cache_clear()
    assert len((tmp_path / "calls").read_text().split()) == 2


def test_a_java_that_is_too_old_is_told(unfetched: Wanted, tmp_path: Path) -> None:
    program(tmp_path / "bin", "java", "echo 'openjdk version \"11.0.2\"' >&2")
    with pytest.raises(ServiceUnavailable, match=r"needs Java 17, and .* is 11: .*BUS_TEST_KAFKA"):
        fetched(unfetched)


# --- when somebody asks --------------------------------------------------------------------------

ASKING = """
import sys
from concurrent.futures import ThreadPoolExecutor
from tools.services import later

with ThreadPoolExecutor(3) as threads:
    later.wake("elasticsearch")
    print({threads.submit(later.ask, "elasticsearch").result() for _ in range(3)})
"""


@pytest.mark.usefixtures("alone")
def test_a_server_starts_once_somebody_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available(JAVA["elasticsearch"])
    names = list(JAVA)
    with services([], on_demand=names, folder=tmp_path, kept_folder=tmp_path / "kept") as found:
        assert found.environment == {later.ADDRESS: found.asked_at}
        assert not processes_of(tmp_path)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **found.environment}
        words = [sys.executable, "-c", ASKING]
        told = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        monkeypatch.setenv(later.ADDRESS, found.asked_at)
        answer = later.ask("elasticsearch")
        assert told.stdout.strip() == str({answer})
        assert call(answer.url, "GET", "/")["version"]["number"]
        assert later.ask("oracle") == later.Answer()
        assert not processes_of(tmp_path / "kafka")
    assert nothing_runs_in(tmp_path)


@pytest.mark.usefixtures("alone")
def test_what_is_still_starting_at_the_end_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available(JAVA["opensearch"])
    with services([], on_demand=["opensearch"], folder=tmp_path, kept_folder=tmp_path) as found:
        monkeypatch.setenv(later.ADDRESS, found.asked_at)
        later.wake("opensearch")
        assert wait_until(lambda: bool(processes_of(tmp_path)), seconds=60)
    assert nothing_runs_in(tmp_path)


def test_where_nobody_can_be_asked_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(later.ADDRESS, raising=False)
    later.wake("kafka")
    assert later.ask("kafka") == later.Answer()
