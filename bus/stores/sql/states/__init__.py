"""Snapshots, and the states of aggregates that are stored by their state. In the order in which to
read:

stored        the latest state of each stream in a table: snapshots
states        those that are written with commits, and found by their fields
places        where a state is found by its fields' values
writing       a state and its places, in one transaction
finding       the query for a page of states that may match
"""

from bus.stores.sql.states.states import SqlStates
from bus.stores.sql.states.stored import StoredStates

__all__ = ["SqlStates", "StoredStates"]
