"""The write deck: aggregates decide, a unit of work stores, publisher and relay publish.

aggregate     decides, records events, is rebuilt from them
declared      checks an aggregate's class
state         the state that its class declares, fresh for each, and as a snapshot
steps         what `apply` uses, which is part of a snapshot's shape
snapshots     makes and reads snapshots and states, and says where that fails
repository    loads the aggregates of one class
unit_of_work  everything that one command stores, at once
receipts      what the log says became of it, at first and when it comes again
publisher     sends stored commits to the broker
relay         publishes what is stored but not yet confirmed
"""
