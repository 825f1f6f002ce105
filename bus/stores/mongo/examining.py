"""What a MongoDB server is, and what it lacks of what a service needs. Changes nothing but a lease
that nobody holds."""

from collections.abc import Collection as Several
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pymongo import IndexModel
from pymongo.errors import OperationFailure, PyMongoError

from bus.data.payload import Document
from bus.errors import StoreUnavailable
from bus.observe.health import Finding, fault, fine, of_problem, warning
from bus.stores.mongo.client import Client, Collection, Database, bounded
from bus.stores.mongo.clock import ServerClock
from bus.stores.mongo.failures import no_transactions, reading
from bus.stores.mongo.indexes import exists_otherwise

OLDEST = (6, 0)
"""The first release that the tests have run with."""
ENOUGH = 3
"""Members of a set, of which one may be lost."""
CONFIRM_WITHIN = 2.0
NOBODY = "doctor"
LEASES = "leases"
NOT_ALLOWED = 13
ACTIONS = (
    "find", "insert", "update", "remove", "createCollection", "dropCollection", "createIndex",
    "dropIndex", "collMod", "changeStream", "listCollections", "listIndexes",
)  # fmt: skip
"""What a service does in its database, by the names of roles' actions."""
BUILT_IN = frozenset({
    "read", "readWrite", "dbAdmin", "dbOwner", "userAdmin", "readAnyDatabase",
    "readWriteAnyDatabase", "dbAdminAnyDatabase", "userAdminAnyDatabase", "clusterAdmin",
    "clusterManager", "clusterMonitor", "hostManager", "enableSharding", "backup", "restore",
    "root",
})  # fmt: skip
"""Roles of MongoDB's own, which cannot be given more privileges."""


async def examined(client: Client, database: Database, own: ServerClock) -> list[Finding]:
    """Returns what a server is, or why none can be worked with."""
    try:
        server = await own.look(client)
    except StoreUnavailable as error:
        return [_away(client, error)]
    if "setName" not in server and server.get("msg") != "isdbgrid":
        return [of_problem(str(no_transactions()), promise="G3")]
    return [
        await _version(client),
        *_members(server),
        *await _rights(client, database.name),
        *await _majority(database, server),
    ]


async def missing_indexes(collection: Collection, models: Sequence[IndexModel]) -> list[Finding]:
    """Returns which indexes a collection lacks or has otherwise; none if there is no collection.

    Raises: StoreUnavailable."""
    async with reading():
        there: Mapping[str, Any] = await collection.index_information()
    found = (_index_problem(collection.name, model.document, there) for model in models)
    return [problem for problem in found if problem] if there else []


def _index_problem(collection: str, model: Document, there: Mapping[str, Any]) -> Finding | None:
    name, is_unique = model["name"], bool(model.get("unique"))
    keys = list(model["key"].items())
    others = [other for other, index in there.items() if index["key"] == keys or other == name]
    if not others:
        return warning(
            f"the index {name!r} of the collection {collection!r} is missing: its queries read all",
            "start a worker of this service: it makes it",
        )
    existing = there[others[0]]
    if existing["key"] == keys and bool(existing.get("unique")) == is_unique:
        return None
    if "text" in dict(keys).values():  # which MongoDB keeps under other keys
        return None
    what, _, remedy = exists_otherwise(collection, name, others[0]).partition("; ")
    return warning(what, f"{remedy}; a worker that starts then makes it as declared")


async def _version(client: Client) -> Finding:
    async with reading():
        built = await client.get_database("admin").command("buildInfo")
    number = tuple(built["versionArray"][:2])
    if number < OLDEST:
        return warning(
            f"MongoDB {built['version']} is older than {OLDEST[0]}.{OLDEST[1]}, the first release "
            f"that this one was tested with",
            "update it",
        )
    return fine(f"MongoDB {built['version']}")


def _members(server: Document) -> list[Finding]:
    if "setName" not in server:
        return [fine("a cluster, behind mongos")]
    members = [*server.get("hosts", ()), *server.get("passives", ())]
    of_set = f"the replica set {server['setName']} has {len(members)} member(s) with data"
    if len(members) >= ENOUGH:
        return [fine(of_set)]
    lost = (
        "what it confirms is lost with its disk"
        if len(members) == 1
        else "while one is away, no majority confirms a write"
    )
    return [warning(f"{of_set}: {lost}", "have three: rs.add('host:port') on the primary", "G1")]


async def _rights(client: Client, name: str) -> list[Finding]:
    async with reading():
        status = await client.get_database("admin").command(
            {"connectionStatus": 1, "showPrivileges": True}
        )
    who = status["authInfo"]
    if not who["authenticatedUsers"]:
        return [fine("it was not told a user, and asks nobody for one")]
    held = _held(who["authenticatedUserPrivileges"], name)
    lacking = [action for action in ACTIONS if action not in held]
    if not lacking:
        return [fine(f"its user has all rights that are needed in {name}")]
    return [
        fault(
            f"its user may not {', '.join(lacking)} in the database {name!r}",
            _grant(who, name, lacking),
        )
    ]


def _held(privileges: Sequence[Document], name: str) -> Several[str]:
    """Returns the actions in all collections of a database."""
    return {
        action
        for privilege in privileges
        if _is_of_all(privilege["resource"], name)
        for action in privilege["actions"]
    }


def _is_of_all(resource: Document, name: str) -> bool:
    if resource.get("anyResource"):
        return True
    return resource.get("db") in ("", name) and resource.get("collection") == ""


def _grant(who: Document, name: str, actions: Sequence[str]) -> str:
    """Returns what gives a user more: by a role that was made for it, if it has one."""
    roles = [role for role in who["authenticatedUserRoles"] if _may_have_more(role, name)]
    if roles:
        listed = ", ".join(f'"{action}"' for action in actions)
        resource = f'{{db: "{name}", collection: ""}}'
        to, granted = (
            roles[0]["db"],
            (
                f'grantPrivilegesToRole("{roles[0]["role"]}", '
                f"[{{resource: {resource}, actions: [{listed}]}}])"
            ),
        )
    else:
        user = who["authenticatedUsers"][0]
        listed = ", ".join(f'{{role: "{role}", db: "{name}"}}' for role in _built_in(actions))
        to, granted = user["db"], f'grantRolesToUser("{user["user"]}", [{listed}])'
    return f'let an administrator run in mongosh: db.getSiblingDB("{to}").{granted}'


def _may_have_more(role: Document, name: str) -> bool:
    """Returns whether privileges in a database can be given to a role."""
    return role["role"] not in BUILT_IN and role["db"] in ("admin", name)


def _built_in(actions: Sequence[str]) -> Iterator[str]:
    """Yields the roles of MongoDB's own that allow all of this."""
    if {*actions} - {"collMod"}:
        yield "readWrite"
    if "collMod" in actions:
        yield "dbAdmin"


async def _majority(database: Database, server: Document) -> list[Finding]:
    """Takes a lease for no time. A write that changes nothing would be confirmed by what a majority
    held before. Where no lease was ever taken, a write would make the collection, and the database
    with it, which may be misspelt."""
    taken = [{"$set": {"owner": NOBODY, "until": "$$NOW"}}]
    try:
        async with bounded(CONFIRM_WITHIN):
            if not await database.list_collection_names(filter={"name": LEASES}):
                how = "whether a majority confirms a write shows once the service has begun in it"
                return [fine(f"the database {database.name!r} holds no leases: {how}")]
            await database[LEASES].update_one({"_id": NOBODY}, taken, upsert=True)
    except OperationFailure as error:
        if error.code == NOT_ALLOWED:  # the rights tell
            return []
        return [_no_majority(server.get("setName", ""))]
    except PyMongoError:
        return [_no_majority(server.get("setName", ""))]
    return [fine("a majority confirms what is written")]


def _no_majority(of_set: str, count: str = "") -> Finding:
    return fault(
        f"a majority of the replica set {of_set or 'behind it'} does not confirm a write within "
        f"{CONFIRM_WITHIN:.0f} s{count}: commands and projections wait",
        "start its other members (rs.status() in mongosh says which are away), or see to what "
        "delays them",
        "G1",
    )


def _away(client: Client, error: StoreUnavailable) -> Finding:
    """Returns why no primary was found: if other members of its set answer, a majority is away."""
    description = client.topology_description
    servers = description.server_descriptions().values()
    answering = [server for server in servers if server.server_type_name.startswith("RS")]
    if answering:
        return _no_majority(
            description.replica_set_name or "",
            f" ({len(answering)} of {len(servers)} members answer, and none of them is primary)",
        )
    found = of_problem(str(error), promise="G1")
    if "replica set" in found.what.lower() and len(servers) <= 1:
        alone = "If it stands alone: start mongod with --replSet, and run rs.initiate() once"
        return found._replace(remedy=f"{found.remedy} {alone}")
    return found
