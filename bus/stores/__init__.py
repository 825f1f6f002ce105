"""The event log and the read collections: what is asked of a store, and what all stores share.

    event_log     commits of a service, or of one that it follows
    collections   a place for documents, with their versions, and what else it can do
    control       parked streams, marks of sweeps, small records that processes share
    deadletters   dead letters, found by their fields
    sink          what a place of another technology must do for a projection
    session       effects that happen exactly once
    indexes       which indexes a read collection may have
    asking, grouping  which queries of documents are valid
    records       commits as BSON
    routed        one log to read for all categories

`documents/` computes what writes make of documents, without a database; `together/` does together
what arrives together; `sinks/` has what projections in other technologies share. `memory/`,
`mongo/`, `sql/` and `search/` are the stores themselves; a driver stays in its folder.
"""
