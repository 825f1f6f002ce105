"""The event log and the read collections: what is asked of a store, and what all stores share.

    event_log     commits of a service, or of one that it follows
    collections   documents, and what is kept beside them
    letters, notes  dead letters; small records that several processes change
    session       effects that happen exactly once
    asking, grouping  what may be asked of documents
    records       commits as BSON
    routed        one log to read for all categories

`documents/` is what becomes of documents, worked out without a database. `memory/` and `mongo/` are
the stores themselves; a database's driver stays in its folder.
"""
