"""The event log and the read store in MongoDB, by motor or by PyMongo's asynchronous client."""

from bus.stores.mongo.client import checked, close, connect, makes_clients
from bus.stores.mongo.clock import ServerClock
from bus.stores.mongo.effects import MongoEffects
from bus.stores.mongo.event_log import MongoEventLog
from bus.stores.mongo.followed_log import MongoFollowedLog
from bus.stores.mongo.read_store import MongoReadStore

__all__ = [
    "MongoEffects",
    "MongoEventLog",
    "MongoFollowedLog",
    "MongoReadStore",
    "ServerClock",
    "checked",
    "close",
    "connect",
    "makes_clients",
]
