"""The event log and the read collections: what is asked of a store, and what all stores share.

    event_log     commits of a service, or of one that it follows
    collections   a place for documents, with their versions, and what else it can do
    control       parked streams, marks of sweeps, small records that processes share
    deadletters   dead letters, found by their fields
    read_store    a place for documents that can do all, and control, as one
    session       effects that happen exactly once
    indexes       what the indexes of a read collection may be
    asking, grouping  what may be asked of documents
    records       commits as BSON
    routed        one log to read for all categories

`documents/` is what becomes of documents, worked out without a database. `memory/` and `mongo/` are
the stores themselves; a database's driver stays in its folder.
"""
