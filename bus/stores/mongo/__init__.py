"""The event log, collections and control in MongoDB, by motor or by PyMongo's asynchronous client.

client, sessions, clock   one interface to both drivers; their sessions; the server's clock
transactions, failures    our own transaction loop; what a driver's error means for a write
event_log     commits, a document each
settling, sharing   group commit and the outcome of each append: commits alone, and with states
loader, log, log_queries   reading commits: for aggregates, for the read deck, for people
snapshots, states, places   a cache of states; states written with commits; the log's indexes
copies, fence  a log that is moved: copies of another's commits; commits are refused
followed_log  events of other services
collections   read collections, and their checkpoints
documents     reads, groups and writes of documents
writer, seal  a batch in one transaction; lost checkpoints
indexes, views, changes   what there is beside documents
control, deadletters   a service's own records
effects       a handler's writes, its commits and its mark in one transaction
examining     what a server is, and what it lacks
erasing       deletes what tests made
"""

from bus.stores.mongo.client import checked, close, connect, makes_clients
from bus.stores.mongo.clock import ServerClock
from bus.stores.mongo.collections import MongoCollections
from bus.stores.mongo.control import MongoControl
from bus.stores.mongo.effects import MongoEffects
from bus.stores.mongo.event_log import MongoEventLog
from bus.stores.mongo.followed_log import MongoFollowedLog

__all__ = [
    "MongoCollections",
    "MongoControl",
    "MongoEffects",
    "MongoEventLog",
    "MongoFollowedLog",
    "ServerClock",
    "checked",
    "close",
    "connect",
    "makes_clients",
]
