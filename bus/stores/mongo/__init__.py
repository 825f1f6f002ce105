"""The event log and the read store in MongoDB, by motor or by PyMongo's asynchronous client.

client, sessions, clock   one interface to both drivers; their sessions; the server's clock
transactions, failures    our own transaction loop; what a driver's error means for a write
event_log     commits, a document each
appender, settling   group commit, and the outcome of each append in it
loader, log, log_queries   reading commits: for aggregates, for the read deck, for people
snapshots, places   a cache of states; the log's indexes
followed_log  events of other services
read_store    read collections, checkpoints, small shared records
documents, grouping, totals   reads and writes of documents
writer, shared_reads, seal   a batch in one transaction; reads that share a query; lost checkpoints
indexes, views, changes, deadletters   what there is beside documents
effects       a handler's writes, its commits and its mark in one transaction
erasing       deletes what tests made
"""

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
