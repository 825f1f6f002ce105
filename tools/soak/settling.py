"""Settling: waits until nothing moves any more, and reads what there is then."""

import time
from collections.abc import Callable, Collection
from itertools import chain

from pymongo.errors import PyMongoError

from tools.demo.fold import COLLECTIONS
from tools.services.statements import REFUSALS
from tools.soak.account import account
from tools.soak.checker import PURSE, Verdict, check, command_of
from tools.soak.faults.messages import POISON
from tools.soak.ledger import lines
from tools.soak.log import Document
from tools.soak.plan import SERVICE
from tools.soak.purses import check_purses
from tools.soak.scene import Scene

QUIET_WITHIN, RIGHT_WITHIN, GONE_WITHIN = 180.0, 60.0, 15.0
PAUSE = 0.5
AWAY: tuple[type[Exception], ...] = (PyMongoError, *REFUSALS)
TELLING = ("type", "desc", "client", "active", "secs_running", "command", "transaction", "lsid")


def settle(scene: Scene) -> list[str]:
    """Waits until nothing is pending, to be filled again or in a queue; returns what still was."""
    return _until_empty(lambda: _moving(scene), QUIET_WITHIN)


def judge(scene: Scene) -> Verdict:
    """Compares until all is right, or long enough for that it were: a sweep may be due."""
    deadline = time.monotonic() + RIGHT_WITHIN
    while True:
        verdict = _judge_now(scene)
        if not verdict.problems or time.monotonic() > deadline:
            return verdict
        time.sleep(PAUSE)


def leaked(scene: Scene) -> list[str]:
    """Connections that outlived the processes; to be called when these have ended."""
    return _until_empty(lambda: _connections(scene), GONE_WITHIN)


def _judge_now(scene: Scene) -> Verdict:
    ledgers = account(chain(*map(lines, scene.ledgers)))
    commits = scene.log.commits()
    stored = {
        name: {
            document["_id"]: document
            for document in scene.database[scene.collection(name)].find({})
        }
        for name in COLLECTIONS
    }
    verdict = check(ledgers, commits, stored, scene.observer.sequence)
    _judge_purses(scene, commits, verdict)
    scene.elsewhere.judge(commits, verdict)
    verdict.others += _given_up(scene, ledgers.gone)
    if scene.observer.problem:
        verdict.others.append(scene.observer.problem)
    return verdict


def _judge_purses(scene: Scene, commits: list[Document], verdict: Verdict) -> None:
    stored = {
        document["_id"]: document
        for document in scene.database[scene.collection("purses")].find({})
    }
    seen = scene.log.noted()
    of_purses = (commit for commit in commits if commit["category"] == PURSE)
    lost, twice, others = check_purses(of_purses, stored, seen, scene.release_2_since)
    verdict.lost += lost
    verdict.twice += twice
    verdict.others += others
    verdict.documents += len(stored) + len(seen)


def _given_up(scene: Scene, gone: Collection[str]) -> list[str]:
    """But for poison, and for what queues held of commands that a restored log lacks."""
    letters = scene.database["dead_letters"].find(
        {"message_id": {"$not": {"$regex": f"^{POISON}"}}}
    )
    found = [
        f"dead letter {one['_id']}: {one['error']}: {one['reason']:.200}"
        for one in letters
        if command_of(one["message_id"]) not in gone
    ]
    if parked := scene.database["parked"].count_documents({}):
        found.append(f"{parked} streams are parked")
    return found


def _moving(scene: Scene) -> list[str]:
    scene.processes.tend()
    try:
        pending = scene.log.pending()
        known = scene.database["projections"].find_one({"_id": f"subscriptions/{SERVICE}"}) or {}
    except AWAY as error:
        return [f"a database does not answer: {error!s:.200}"]
    found = [f"{pending} commits are not published"] if pending else []
    found += [
        f"the queue of {name} is to be filled again"
        for name, entry in known.items()
        if isinstance(entry, dict) and "lost" in entry
    ]
    rows = scene.any_broker().control("list_queues", "name", "messages").splitlines()
    queues = [row.split("\t") for row in rows if row.startswith(SERVICE)]
    return found + [
        f"queue {name} holds {messages} messages"
        for name, messages in queues
        if messages != "0" and not name.endswith(".dead")
    ]


def _connections(scene: Scene) -> list[str]:
    found = []
    for node in scene.rabbit.nodes:
        if rows := node.control("list_connections", "pid").split():
            found.append(f"{len(rows)} connections are left at RabbitMQ {node.port}")
            break
    everything: list[Document] = [
        {"$currentOp": {"allUsers": True, "idleConnections": True, "localOps": True}},
        {"$match": {"appName": "doubledecker"}},
    ]
    for one in scene.client.admin.aggregate(everything):
        what = {key: one[key] for key in TELLING if key in one}
        found.append(f"left at MongoDB: {what}")
    return [*found, *scene.log.connections(), *scene.elsewhere.connections()]


def _until_empty(question: Callable[[], list[str]], seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while True:
        found = question()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(PAUSE)
