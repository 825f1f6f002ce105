"""What an export and the management API say is read as RabbitMQ writes it."""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bus.errors import ConfigurationError, TransportUnavailable
from bus.transports.rabbitmq.planning.definitions import found_in, read_definitions
from bus.transports.rabbitmq.planning.found import Found
from bus.transports.rabbitmq.planning.management import ask_management, found_by, nodes_by
from tests.fault.certificates import made_in

QUORUM = {"x-queue-type": "quorum"}


def queue(name: str, vhost: str = "/", **more: Any) -> dict[str, Any]:
    entry = {"name": name, "vhost": vhost, "durable": True, "auto_delete": False}
    return {**entry, "arguments": QUORUM, **more}


def bound(source: str, name: str, topic: str) -> dict[str, Any]:
    entry = {"source": source, "vhost": "/", "destination": name, "destination_type": "queue"}
    return {**entry, "routing_key": topic, "arguments": {}}


QUEUES = [queue("bank.mail"), queue("bank.mail", "other"), queue("bank.dead", arguments={})]
EXCHANGES = [
    {"name": "bank.events", "vhost": "/", "type": "topic", "durable": True, "arguments": {}}
]
BINDINGS = [bound("", "bank.mail", "bank.mail"), bound("bank.events", "bank.mail", "*.Paid.*")]


def policy(name: str, pattern: str, definition: dict[str, Any], **more: Any) -> dict[str, Any]:
    entry = {"vhost": "/", "name": name, "pattern": pattern, "definition": definition}
    return {**entry, "apply-to": "all", "priority": 0, **more}


def operator(name: str, pattern: str, definition: dict[str, Any]) -> dict[str, Any]:
    pairs = [list(pair) for pair in definition.items()]  # as an export has it
    value = {"pattern": pattern, "definition": pairs, "priority": 0, "apply-to": "queues"}
    return {"vhost": "/", "component": "operator_policy", "name": name, "value": value}


def exported(**parts: Any) -> dict[str, Any]:
    vhosts = [{"name": "/"}, {"name": "other"}]
    document = {"vhosts": vhosts, "queues": QUEUES, "exchanges": EXCHANGES, "bindings": BINDINGS}
    return {**document, **parts}


def policy_on(name: str, **parts: Any) -> tuple[str, dict[str, Any]]:
    found = found_in(exported(**parts), "/", "a file").queues[name].policy
    assert found
    return found.name, dict(found.definition)


def test_an_export_is_read_for_one_virtual_host() -> None:
    found = found_in(exported(), "/", "a file")
    assert sorted(found.queues) == ["bank.dead", "bank.mail"]
    mail = found.queues["bank.mail"]
    assert mail.arguments == QUORUM
    assert mail.bindings == frozenset(
        {("bank.events", "*.Paid.*")}
    )  # and not the default exchange's
    assert found.exchanges["bank.events"].kind == "topic"
    assert [unseen.what for unseen in found.unseen] == ["messages and consumers"]


def test_a_queue_that_goes_with_its_connection_is_nobodys_orphan() -> None:
    lock = queue("bank.topology.lock", exclusive=True)
    found = found_by([*QUEUES, lock], EXCHANGES, BINDINGS, policies=[[], []], source="the API")
    assert lock["name"] not in found.queues


def test_of_several_policies_that_of_the_highest_priority_counts() -> None:
    low = policy("low", "^bank", {"expires": 1})
    high = policy("high", "mail$", {"message-ttl": 2}, priority=7)
    assert policy_on("bank.mail", policies=[low, high]) == ("high", {"message-ttl": 2})
    assert policy_on("bank.dead", policies=[low, high]) == ("low", {"expires": 1})


@pytest.mark.parametrize(
    ("apply_to", "name", "applies"),
    [
        ("queues", "bank.mail", True),
        ("quorum_queues", "bank.mail", True),
        ("classic_queues", "bank.mail", False),
        ("classic_queues", "bank.dead", True),
        ("exchanges", "bank.mail", False),
        ("streams", "bank.mail", False),
    ],
)
def test_a_policy_counts_where_it_applies_to(apply_to: str, name: str, applies: bool) -> None:
    one = policy("one", ".*", {"expires": 1}, **{"apply-to": apply_to})
    assert policy_on(name, policies=[one]) == (("one", {"expires": 1}) if applies else ("", {}))


def test_policies_of_another_virtual_host_do_not_count() -> None:
    assert policy_on("bank.mail", policies=[policy("x", ".*", {"expires": 1}, vhost="o")])[1] == {}


def test_of_a_policy_and_an_operators_policy_the_smaller_number_counts() -> None:
    found = policy_on(
        "bank.mail",
        policies=[policy("ours", ".*", {"max-length": 10, "expires": 5, "overflow": "x"})],
        parameters=[operator("theirs", ".*", {"max-length": 20, "expires": 1, "overflow": "y"})],
    )
    assert found == ("ours, theirs", {"max-length": 10, "expires": 1, "overflow": "y"})


@pytest.mark.parametrize(
    ("pattern", "name"), [("^[[:alpha:]]+[.]mail$", "bank.mail"), ("^bank[[:punct:]", "")]
)
def test_a_pattern_that_python_does_not_read_is_translated_or_named(
    pattern: str, name: str
) -> None:
    parts = {"policies": [policy("one", pattern, {"expires": 1})]}
    found = found_in(exported(**parts), "/", "a file")
    unseen = [unseen.what for unseen in found.unseen]
    assert ("policy one" in unseen) is (not name)
    assert policy_on("bank.mail", **parts)[0] == ("one" if name else "")


@pytest.mark.parametrize("pattern", [r"\Qbank\E", "bank(?|a|b)", "^bank[[:^digit:]]"])
def test_a_pattern_in_pcre_stops_no_plan(pattern: str) -> None:
    parts = {"parameters": [operator("theirs", pattern, {"expires": 1})]}
    assert "policy theirs" in [u.what for u in found_in(exported(**parts), "/", "a file").unseen]


def test_by_the_api_rabbitmq_says_what_a_pattern_comes_to_that_python_does_not_read() -> None:
    facts = queue("bank.mail", policy="one", effective_policy_definition={"expires": 1})
    policies = [[policy("one", r"\Qbank\E", {"expires": 1})], []]
    found = found_by([facts], EXCHANGES, BINDINGS, policies=policies, source="the API")
    assert found.queues["bank.mail"].policy == ("one", {"expires": 1})


def test_a_file_that_is_no_export_or_of_another_broker_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    with pytest.raises(ConfigurationError, match=r"cannot be read: .*export_definitions"):
        read_definitions(file, "/")
    file.write_text("{}")
    with pytest.raises(ConfigurationError, match="holds no definitions of RabbitMQ"):
        read_definitions(file, "/")
    file.write_text(json.dumps(exported()))
    assert read_definitions(file, "/").source == f"the definitions in {file}"
    with pytest.raises(ConfigurationError, match=r"has no virtual host 'third'.*'/', 'other'"):
        read_definitions(file, "third")


def test_an_export_of_one_virtual_host_names_none() -> None:
    nameless = [{k: v for k, v in entry.items() if k != "vhost"} for entry in QUEUES[:1]]
    found = found_in(
        {"queues": nameless, "exchanges": [], "bindings": []}, "whichever it was", "a file"
    )
    assert list(found.queues) == ["bank.mail"]


# -- the management API


class Api(BaseHTTPRequestHandler):
    """Answers as the management plugin does: empty objects may be empty lists."""

    lists = {  # noqa: RUF012
        "/api/queues/my%20vhost": [
            {**QUEUES[0], "messages": 4, "consumers": 1, "policy": "p", "operator_policy": None,
             "effective_policy_definition": {"expires": 5}},
            {**QUEUES[2], "arguments": [], "effective_policy_definition": []},
        ],
        "/api/exchanges/my%20vhost": EXCHANGES,
        "/api/bindings/my%20vhost": BINDINGS,
        "/api/policies/my%20vhost": None,  # what the plugin refuses a user without the tag
        "/api/whoami": {"name": "me", "tags": ["management"]},
        "/api/nodes": [{"name": "rabbit@a", "running": True}],
    }  # fmt: skip
    nodes = 200
    """With what it answers who asks for nodes."""

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == "Basic bWU6cCB3"  # me:p w
        found = self.lists.get(self.path)
        body = json.dumps(found).encode() if self.path != "/api/queues/html" else b"<html>"
        is_there = found is not None or self.path == "/api/queues/html"
        status = self.nodes if self.path == "/api/nodes" else 200 if is_there else 404
        self.send_response(status if is_known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def place() -> Iterator[str]:
    with served() as place:
        yield place


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that hangs up."""


@contextmanager
def served(context: ssl.SSLContext | None = None) -> Iterator[str]:
    with Server(("127.0.0.1", 0), Api) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def asked(place: str, vhost: str = "my vhost", user: str = "me:p%20w") -> Found:
    """Asks in a loop of its own, because in virtual time nobody waits for threads."""
    return asyncio.run(ask_management(f"http://{user}@{place}/", vhost))


def test_the_management_api_tells_messages_consumers_and_policies(place: str) -> None:
    found = asked(place)
    mail, dead = found.queues["bank.mail"], found.queues["bank.dead"]
    assert (mail.messages, mail.consumers, mail.arguments) == (4, 1, QUORUM)
    assert mail.bindings == frozenset({("bank.events", "*.Paid.*")})
    assert mail.policy == ("p", {"expires": 5})
    assert (dead.messages, dead.arguments, dead.policy) == (None, {}, ("", {}))
    assert found.is_whole
    assert not found.unseen
    assert "p w" not in found.source


def test_a_management_api_that_refuses_is_an_error_with_the_remedy(place: str) -> None:
    with pytest.raises(ConfigurationError, match=r"with 401; check user and password.*the tag"):
        asked(place, user="me:wrong")
    with pytest.raises(ConfigurationError, match="with 404; the virtual host"):
        asked(place, "nowhere")
    with pytest.raises(ConfigurationError, match="is BUS_MANAGEMENT_URL that of RabbitMQ's"):
        asked(place, "html")


def nodes(place: str, user: str = "me:p%20w", path: str = "") -> list[Any]:
    return [*asyncio.run(nodes_by(f"http://{user}@{place}/{path}"))]


def test_nodes_are_hidden_from_who_lacks_a_tag_and_whatever_else_refuses_is_an_error(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [node["name"] for node in nodes(place)] == ["rabbit@a"]
    with pytest.raises(ConfigurationError, match=r"with 401; check user and password"):
        nodes(place, user="me:wrong")
    with pytest.raises(ConfigurationError, match=r"with 404; is BUS_MANAGEMENT_URL that of"):
        nodes(place, path="elsewhere")
    monkeypatch.setattr(Api, "nodes", 401)
    assert nodes(place) == []


def test_a_management_api_is_asked_by_tls_if_its_authority_is_known(tmp_path: Path) -> None:
    certificates = made_in(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server)
    with served(context) as place:
        known = f"https://me:p%20w@{place}/?cafile={certificates.authority}"
        assert asyncio.run(ask_management(known, "my vhost")).queues
        for file in ("", f"?cafile={certificates.stranger}"):  # as one that signed itself
            url = f"https://me:p%20w@{place}/{file}"
            with pytest.raises(TransportUnavailable, match=r"by TLS: .*certificate.*cafile="):
                asyncio.run(ask_management(url, "my vhost"))
        nowhere = f"https://me:p%20w@{place}/?cafile={tmp_path / 'none'}"
        with pytest.raises(ConfigurationError, match="none cannot be read"):
            asyncio.run(ask_management(nowhere, "my vhost"))
    with served() as place, pytest.raises(TransportUnavailable, match="the one for TLS"):
        asyncio.run(ask_management(f"https://me:x@{place}/", "my vhost"))


def test_a_management_api_that_is_away_is_unavailable() -> None:
    with pytest.raises(TransportUnavailable, match=r"at 127.0.0.1:1 does not answer.*the plugin"):
        asked("127.0.0.1:1")
