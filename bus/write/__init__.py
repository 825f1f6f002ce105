"""The write deck: aggregates decide, a unit of work stores, publisher and relay publish.

aggregate     decides, records events, is rebuilt from them
declared      what an aggregate's class may be
state         what its class declares of its state, fresh for each, and as a snapshot
steps         what `apply` uses, which makes the shape of snapshots
functions, snapshots
repository    hands out the aggregates of one class
unit_of_work  everything that one command stores, at once
publisher     sends stored commits to the broker
relay         publishes what is stored and not yet confirmed
"""
